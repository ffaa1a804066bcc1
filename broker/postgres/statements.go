package postgres

import _ "embed"

//go:embed schema.sql
var schemaSQL string

// Statements that are sent together are one transaction: all locks come first, and in
// one order for everybody: leases, groups' positions, partitions, ids. Each sees
// what was committed while those before it waited.
//
// What must not be so ends the transaction by a null in a column "position" that takes none.

const (
	// lockLeases keeps partitions from changing hands until the transaction has ended.
	lockLeases = `SELECT FROM leases WHERE key = ANY($1::text[]) ORDER BY key FOR SHARE`

	// movePositions moves the positions of groups whose leases have the epochs given.
	movePositions = `INSERT INTO positions (topic, "group", partition, position)
		SELECT c.topic, c.grp, c.partition, CASE WHEN p.partition IS NOT NULL
			AND (convert_from(l.value, 'UTF8')::jsonb ->> 'epoch')::bigint = c.epoch THEN c.next END
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::int[], $6::bigint[]) c (key, epoch, grp, topic, partition, next)
		LEFT JOIN leases l ON l.key = c.key
		LEFT JOIN partitions p ON p.topic = c.topic AND p.partition = c.partition AND NOT p.gone
		ORDER BY 1, 2, 3
		ON CONFLICT (topic, "group", partition) DO UPDATE SET position = excluded.position`

	// lockPartitions lets nobody else take positions in them.
	lockPartitions = `SELECT FROM partitions p
		WHERE EXISTS (SELECT FROM unnest($1::bigint[], $2::int[]) w (topic, partition) WHERE w.topic = p.topic AND w.partition = p.partition)
			AND p.topic = ANY($1) AND p.partition = ANY($2)
		ORDER BY p.topic, p.partition FOR NO KEY UPDATE`

	// store adds records, in their order, at the ends of their partitions.
	store = `WITH input AS MATERIALIZED (` + input + `), ` + stored + `SELECT count(*) FROM stored`

	// storeOnce is store for topics that remember ids. With $7 those seen within the window are dropped.
	storeOnce = `WITH given AS MATERIALIZED (` + input + `), fresh AS (
			INSERT INTO ids (topic, id, until)
			SELECT $1, g.id, clock_timestamp() + make_interval(secs => t.dedup_window / 1e9)
			FROM (SELECT DISTINCT id FROM given WHERE id <> '') g, topics t WHERE t.id = $1 ORDER BY 2
			ON CONFLICT (topic, id) DO UPDATE SET until = excluded.until WHERE NOT $7::boolean OR ids.until <= clock_timestamp()
			RETURNING id
		), input AS MATERIALIZED (
			SELECT g.* FROM given g LEFT JOIN fresh f ON f.id = g.id
			WHERE NOT $7 OR NOT EXISTS (SELECT FROM topics WHERE topics.id = $1) OR g.id IS NULL OR g.id = '' OR f.id IS NOT NULL AND g.n = (SELECT min(n) FROM given o WHERE o.id = g.id)
		), ` + stored + `SELECT count(*) FROM stored`

	input = `SELECT * FROM unnest($2::int[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[]) WITH ORDINALITY i (partition, id, key, headers, value, n)`

	stored = `clock AS MATERIALIZED (SELECT clock_timestamp() AS now), stored AS (
			INSERT INTO records (topic, partition, position, stored_at, id, key, headers, value)
			SELECT $1, i.partition, p.end_at - 1 + row_number() OVER (PARTITION BY i.partition ORDER BY i.n),
				greatest(p.stored_at, clock.now), i.id, i.key, i.headers, i.value
			FROM clock, input i LEFT JOIN partitions p ON p.topic = $1 AND p.partition = i.partition AND NOT p.gone
			RETURNING partition, stored_at, coalesce(octet_length(id), 0) + coalesce(octet_length(key), 0)
				+ coalesce(octet_length(headers), 0) + coalesce(octet_length(value), 0) AS size
		), moved AS (
			UPDATE partitions p SET end_at = p.end_at + s.n, bytes = p.bytes + s.size, stored_at = s.stored_at
			FROM (SELECT partition, count(*) AS n, sum(size) AS size, max(stored_at) AS stored_at FROM stored GROUP BY partition) s
			WHERE p.topic = $1 AND p.partition = s.partition
		) `

	// fetch reads records from $3 on: at most $4, and no more than the first behind $5 bytes.
	fetch = `SELECT p.end_at, r.position, r.stored_at, r.id, r.key, r.headers, r.value
		FROM partitions p LEFT JOIN LATERAL (
			SELECT *, sum(coalesce(octet_length(value), 0)::bigint + coalesce(octet_length(headers), 0) + 64)
				OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
			FROM records WHERE topic = p.topic AND partition = p.partition
				AND position >= greatest($3, p.start_at) AND position < greatest($3, p.start_at) + $4
		) r ON coalesce(r.before, 0) < $5
		WHERE p.topic = $1 AND p.partition = $2 AND NOT p.gone ORDER BY r.position`

	describe = `SELECT t.retention, t.retain_bytes, t.dedup_window, p.start_at, p.end_at, p.bytes, coalesce(g.position, -1),
			(SELECT stored_at FROM records r WHERE r.topic = p.topic AND r.partition = p.partition
				AND r.position = greatest(p.start_at, g.position) AND r.position < p.end_at)
		FROM topics t JOIN partitions p ON p.topic = t.id
		LEFT JOIN positions g ON g.topic = t.id AND g."group" = $2 AND g.partition = p.partition
		WHERE t.name = $1 ORDER BY p.partition`

	// begin is where a claim begins.
	begin = `SELECT p.end_at, coalesce(g.position, -1) FROM partitions p
		LEFT JOIN positions g ON g.topic = p.topic AND g."group" = $2 AND g.partition = p.partition
		WHERE p.topic = $1 AND p.partition = $3 AND NOT p.gone`

	// seek halves the partition until one position is left: times never fall in it.
	seek = `WITH RECURSIVE s (low, high) AS (
			SELECT start_at, end_at FROM partitions WHERE topic = $1 AND partition = $2 AND NOT gone
			UNION ALL
			SELECT CASE WHEN r.stored_at < $3 THEN r.position + 1 ELSE s.low END, CASE WHEN r.stored_at < $3 THEN s.high ELSE r.position END
			FROM s JOIN records r ON r.topic = $1 AND r.partition = $2 AND r.position = (s.low + s.high) / 2 WHERE s.low < s.high
		) SELECT low FROM s WHERE low >= high`

	trim = `UPDATE partitions SET start_at = least(greatest(start_at, $3), end_at) WHERE topic = $1 AND partition = $2 AND NOT gone`

	createTopic = `WITH t AS (
			INSERT INTO topics (name, partitions, retention, retain_bytes, dedup_window) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (name) DO NOTHING RETURNING id
		) INSERT INTO partitions (topic, partition) SELECT t.id, p FROM t, generate_series(0, $2::int - 1) p`

	lockTopic = `SELECT FROM partitions WHERE topic = $1 ORDER BY partition FOR NO KEY UPDATE`

	deleteTopic = `WITH t AS (DELETE FROM topics WHERE id = $1 RETURNING id),
		p AS (UPDATE partitions SET gone = true, start_at = end_at WHERE topic = $1),
		g AS (DELETE FROM positions WHERE topic = $1),
		l AS (DELETE FROM leases WHERE key >= $2 AND key < $3)
		SELECT count(*) FROM t`
)

// What the sweeper runs.
const (
	// sweepable are the partitions that have something to give free.
	sweepable = `SELECT p.topic, p.partition, p.start_at, p.swept_at, p.gone, p.bytes, coalesce(t.retain_bytes, 0),
			CASE WHEN t.retention > 0 THEN clock_timestamp() - make_interval(secs => t.retention / 1e9) END
		FROM partitions p LEFT JOIN topics t ON t.id = p.topic
		WHERE p.gone OR p.swept_at < p.start_at OR t.retain_bytes > 0 AND p.bytes > t.retain_bytes
			OR t.retention > 0 AND p.start_at < p.end_at AND clock_timestamp() - make_interval(secs => t.retention / 1e9) >
				(SELECT stored_at FROM records r WHERE r.topic = p.topic AND r.partition = p.partition AND r.position = p.start_at)`

	// excess is behind the first of the $4 records from $3 on with which $5 bytes are free.
	excess = `SELECT coalesce(min(position) FILTER (WHERE total >= $5), max(position)) + 1 FROM (
			SELECT position, sum(coalesce(octet_length(id), 0)::bigint + coalesce(octet_length(key), 0)
				+ coalesce(octet_length(headers), 0) + coalesce(octet_length(value), 0)) OVER (ORDER BY position) AS total
			FROM records WHERE topic = $1 AND partition = $2 AND position >= $3 AND position < $3 + $4) r`

	// sweep deletes the rows in [$3, $4), which lie before the partition's start, and returns the bytes left.
	sweep = `WITH d AS (
			DELETE FROM records WHERE topic = $1 AND partition = $2 AND position >= $3 AND position < $4
			RETURNING coalesce(octet_length(id), 0)::bigint + coalesce(octet_length(key), 0)
				+ coalesce(octet_length(headers), 0) + coalesce(octet_length(value), 0) AS size
		) UPDATE partitions SET swept_at = $4, bytes = bytes - (SELECT coalesce(sum(size), 0) FROM d)
		WHERE topic = $1 AND partition = $2 AND swept_at = $3 RETURNING bytes`

	forgetPartition = `DELETE FROM partitions WHERE topic = $1 AND partition = $2 AND gone`

	forgetIDs = `DELETE FROM ids WHERE ctid = ANY(ARRAY(SELECT ctid FROM ids WHERE until <= now() LIMIT $1))`
)
