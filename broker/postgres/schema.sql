-- Run at once, in one transaction, by whoever finds no table leases. SCHEMA_NAME is replaced.
SELECT pg_advisory_xact_lock(7023645186305139315);
CREATE SCHEMA IF NOT EXISTS SCHEMA_NAME;
SET LOCAL search_path TO SCHEMA_NAME;

CREATE TABLE IF NOT EXISTS topics (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name text COLLATE "C" NOT NULL UNIQUE,
	partitions integer NOT NULL,
	retention bigint NOT NULL,    -- nanoseconds; 0 is for ever
	retain_bytes bigint NOT NULL, -- of each partition; 0 is no limit
	dedup_window bigint NOT NULL  -- nanoseconds; 0 is off
);

-- Records are [start_at, end_at). Rows of records below start_at are deleted up to swept_at.
CREATE TABLE IF NOT EXISTS partitions (
	topic bigint NOT NULL,
	partition integer NOT NULL,
	start_at bigint NOT NULL DEFAULT 0,
	end_at bigint NOT NULL DEFAULT 0,
	swept_at bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	stored_at timestamptz NOT NULL DEFAULT '-infinity', -- of the last record
	gone boolean NOT NULL DEFAULT false,                -- its topic was deleted
	PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE IF NOT EXISTS records (
	topic bigint NOT NULL,
	partition integer NOT NULL,
	position bigint NOT NULL,
	stored_at timestamptz NOT NULL,
	id bytea,
	key bytea,
	headers bytea, -- for each: length of the name (varint), name, length of the value (varint), value
	value bytea,
	PRIMARY KEY (topic, partition, position)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE IF NOT EXISTS ids (
	topic bigint NOT NULL,
	id bytea NOT NULL,
	until timestamptz NOT NULL,
	PRIMARY KEY (topic, id)
);
CREATE INDEX IF NOT EXISTS ids_until ON ids (until);

CREATE TABLE IF NOT EXISTS positions (
	topic bigint NOT NULL,
	"group" text COLLATE "C" NOT NULL,
	partition integer NOT NULL,
	position bigint NOT NULL,
	PRIMARY KEY (topic, "group", partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Each version is a number that never comes back.
CREATE SEQUENCE IF NOT EXISTS versions;

CREATE OR REPLACE FUNCTION murmur2(b bytea) RETURNS bigint LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
	m CONSTANT bigint := 1540483477; -- 0x5bd1e995
	w CONSTANT bigint := 4294967295; -- 32 bits
	n integer := octet_length(b);
	h bigint := 2538058380 # n;      -- 0x9747b28c
	k bigint;
	i integer := 0;
BEGIN
	WHILE n - i >= 4 LOOP
		k := get_byte(b, i) | (get_byte(b, i+1)::bigint << 8) | (get_byte(b, i+2)::bigint << 16) | (get_byte(b, i+3)::bigint << 24);
		k := k * m & w;
		k := (k # (k >> 24)) * m & w;
		h := (h * m & w) # k;
		i := i + 4;
	END LOOP;
	IF n - i >= 3 THEN h := h # (get_byte(b, i+2)::bigint << 16); END IF;
	IF n - i >= 2 THEN h := h # (get_byte(b, i+1)::bigint << 8); END IF;
	IF n - i >= 1 THEN h := (h # get_byte(b, i)) * m & w; END IF;
	h := (h # (h >> 13)) * m & w;
	RETURN h # (h >> 15);
END $$;

CREATE OR REPLACE FUNCTION varint(n integer) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
	SELECT CASE WHEN n < 128 THEN set_byte('\x00', 0, n)
		WHEN n < 16384 THEN set_byte(set_byte('\x0000', 0, n & 127 | 128), 1, n >> 7)
		ELSE set_byte(set_byte(set_byte('\x000000', 0, n & 127 | 128), 1, n >> 7 & 127 | 128), 2, n >> 14) END
$$;

-- publish adds one event to a topic within the caller's transaction and returns its
-- position, or null where its id was seen in the topic's window. Values of headers are texts.
CREATE OR REPLACE FUNCTION publish(topic text, value text, key text DEFAULT NULL, id text DEFAULT NULL, headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	t topics%ROWTYPE;
	p partitions%ROWTYPE;
	packed bytea;
BEGIN
	SELECT * INTO t FROM topics WHERE name = publish.topic;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'topic % does not exist', publish.topic USING ERRCODE = 'undefined_object';
	END IF;
	IF octet_length(publish.value) > 8388608 OR octet_length(publish.headers::text) > 1048576 THEN
		RAISE EXCEPTION 'an event has at most 8 MiB, and 1 MiB of headers' USING ERRCODE = 'program_limit_exceeded';
	END IF;
	SELECT string_agg(varint(octet_length(h.name)) || h.name || varint(octet_length(h.text)) || h.text, '') INTO packed FROM (
		SELECT convert_to(j.key, 'UTF8') AS name, convert_to(coalesce(j.value, ''), 'UTF8') AS text FROM jsonb_each_text(publish.headers) j) h;
	SELECT * INTO p FROM partitions WHERE partitions.topic = t.id AND NOT gone AND partition = CASE
		WHEN publish.key <> '' THEN (murmur2(convert_to(publish.key, 'UTF8')) & 2147483647) % t.partitions
		ELSE floor(random() * t.partitions) END::integer FOR NO KEY UPDATE;
	IF t.dedup_window > 0 AND publish.id <> '' THEN
		INSERT INTO ids VALUES (t.id, convert_to(publish.id, 'UTF8'), clock_timestamp() + make_interval(secs => t.dedup_window / 1e9))
			ON CONFLICT ON CONSTRAINT ids_pkey DO UPDATE SET until = excluded.until WHERE ids.until <= clock_timestamp();
		IF NOT FOUND THEN RETURN NULL; END IF;
	END IF;
	p.stored_at := greatest(p.stored_at, clock_timestamp());
	INSERT INTO records VALUES (t.id, p.partition, p.end_at, p.stored_at,
		convert_to(publish.id, 'UTF8'), convert_to(publish.key, 'UTF8'), packed, convert_to(publish.value, 'UTF8'));
	UPDATE partitions SET end_at = p.end_at + 1, stored_at = p.stored_at, bytes = p.bytes + octet_length(publish.value)
		+ coalesce(octet_length(publish.id), 0) + coalesce(octet_length(publish.key), 0) + coalesce(octet_length(packed), 0)
		WHERE partitions.topic = p.topic AND partition = p.partition;
	PERFORM pg_notify('freshet ' || current_schema(), p.topic || '.' || p.partition);
	RETURN p.end_at;
END $$;

-- The last, by which others see that all is there.
CREATE TABLE IF NOT EXISTS leases (
	key text COLLATE "C" PRIMARY KEY,
	version bigint NOT NULL,
	value bytea NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
