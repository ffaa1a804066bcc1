package kafka

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/event"
)

var unpacking = kgo.DefaultDecompressor()

// sealed batches are read back by the client's own reader.
func readBatch(t *testing.T, raw []byte) kgo.FetchPartition {
	t.Helper()
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = raw
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "t"}, &rp, unpacking, nil)
	if fp.Err != nil {
		t.Fatal(fp.Err)
	}
	return fp
}

func back(k *kgo.Record) event.Record {
	var r event.Record
	fill(&r, k, nil)
	return r
}

func TestBatchesReadBackAsTheyWerePacked(t *testing.T) {
	recs := []event.Record{
		{ID: []byte("e-1"), Key: []byte("k"), Value: []byte("v"), Headers: event.Headers(nil).AppendString("ce_type", "a").AppendString("ce_type", "b").AppendString("", "")},
		{},
		{Value: []byte{}},
		{Key: []byte("only a key")},
		{Value: make([]byte, 100_000)},
		{ID: []byte("x"), Headers: event.Headers(nil).AppendString("ce_id", "another")},
	}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.GzipCompression()} {
		packing, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{1 << 20, 200, 1} {
			d := &Driver{packing: packing}
			p := d.newProducer(nil, "id")
			p.took(7, 3)
			x := &part{topic: &topic{name: "t"}}
			p.pack(x, recs, limit)
			p.seal([]*part{x})
			var got []event.Record
			for _, b := range x.batches {
				for _, k := range readBatch(t, b.bytes).Records {
					if k.ProducerID != 7 || k.ProducerEpoch != 3 || time.Since(k.Timestamp) > time.Minute {
						t.Errorf("producer %d epoch %d at %v", k.ProducerID, k.ProducerEpoch, k.Timestamp)
					}
					got = append(got, back(k))
				}
			}
			for i := range got {
				got[i].Position, got[i].Time = 0, 0
			}
			if diff := cmp.Diff(recs, got); diff != "" {
				t.Errorf("codec %v, at most %d bytes a batch (-want +got):\n%s", codec, limit, diff)
			}
			if limit == 1 && len(x.batches) != len(recs) {
				t.Errorf("%d batches of %d records", len(x.batches), len(recs))
			}
			if want := int32(len(recs)); p.next[place{}] != want {
				t.Errorf("the next sequence number is %d, want %d", p.next[place{}], want)
			}
		}
	}
}

func TestForeignRecordsBecomeEvents(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	h := func(pairs ...string) (hs []kgo.RecordHeader) {
		for i := 0; i < len(pairs); i += 2 {
			hs = append(hs, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return hs
	}
	for _, c := range []struct {
		name string
		in   kgo.Record
		want event.Record
	}{
		{"no headers", kgo.Record{Key: []byte("k"), Value: []byte("v"), Offset: 5}, event.Record{Key: []byte("k"), Value: []byte("v"), Position: 5}},
		{"a CloudEvent in binary mode", kgo.Record{Headers: h("ce_specversion", "1.0", "ce_id", "e-1", "ce_type", "t", "content-type", "application/json")},
			event.Record{ID: []byte("e-1"), Headers: event.Headers(nil).AppendString("ce_specversion", "1.0").AppendString("ce_type", "t").AppendString("content-type", "application/json")}},
		{"a second id stays a header", kgo.Record{Headers: h("ce_id", "1", "ce_id", "2")}, event.Record{ID: []byte("1"), Headers: event.Headers(nil).AppendString("ce_id", "2")}},
		{"a tombstone", kgo.Record{Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "null"}}}, event.Record{Key: []byte("k"), Headers: event.Headers(nil).AppendString("null", "")}},
	} {
		c.in.Timestamp = at
		c.want.Time = at.UnixNano()
		if diff := cmp.Diff(c.want, back(&c.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func FuzzRecordsReadBack(f *testing.F) {
	f.Add([]byte("id"), []byte("key"), []byte("value"), "name", []byte("header"), uint8(3))
	f.Add([]byte{}, []byte{}, []byte{}, "", []byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, id, key, value []byte, name string, header []byte, repeats uint8) {
		want := event.Record{Value: value}
		if len(id) > 0 {
			want.ID = id
		}
		if len(key) > 0 {
			want.Key = key
		}
		if name == event.HeaderID {
			name = "other"
		}
		for range min(repeats, 8) {
			want.Headers = want.Headers.Append(name, header)
		}
		p := (&Driver{}).newProducer(nil, "id")
		x := &part{topic: &topic{name: "t"}}
		p.pack(x, []event.Record{want}, 1<<20)
		p.seal([]*part{x})
		got := readBatch(t, x.batches[0].bytes).Records
		if len(got) != 1 {
			t.Fatalf("%d records", len(got))
		}
		r := back(got[0])
		r.Time = 0
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
		o := newOutgoing().(*outgoing)
		o.take("t", []event.Record{{ID: []byte("former"), Headers: want.Headers}}, func(int) int32 { return 1 })
		o.take("t", []event.Record{want}, func(int) int32 { return 0 })
		r = back(&o.records[0])
		r.Time = 0
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
	})
}

// Memory is bounded by what comes in, whatever it is.
func FuzzForeignAnswers(f *testing.F) {
	p := (&Driver{}).newProducer(nil, "id")
	x := &part{topic: &topic{name: "t"}}
	p.pack(x, []event.Record{{ID: []byte("1"), Value: []byte("v")}, {Key: []byte("k")}}, 1<<20)
	p.seal([]*part{x})
	f.Add(x.batches[0].bytes)
	f.Fuzz(func(_ *testing.T, raw []byte) {
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.RecordBatches = raw
		fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{DisableCRCValidation: true}, &rp, unpacking, nil)
		for _, k := range fp.Records {
			_ = back(k)
		}
	})
}

func FuzzTokenAnswers(f *testing.F) {
	f.Add([]byte(`{"access_token":"x","expires_in":1e300}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var x tokens
		if err := x.take(body); err == nil && (x.value == "" || time.Until(x.until) > 25*time.Hour) {
			t.Errorf("took %q until %v", x.value, x.until)
		}
	})
}
