package learn

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/freshet-io/freshet/errkind"
)

// weightsMagic begins exported weights: it names the network's form, which its sizes and leads are part of.
const weightsMagic = "freshet lstm 1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Weights returns what was learnt: a line that names the form, the parameters in double precision, little-endian, and a
// CRC-32C of all before it. What was seen is not in it.
func (f *Forecaster) Weights() []byte {
	b := append([]byte(nil), weightsMagic...)
	for _, v := range f.net.params {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// SetWeights goes on with weights from Weights. It fails (Invalid) and changes nothing where they are of another
// network, cut, changed, or no sound numbers.
func (f *Forecaster) SetWeights(b []byte) error {
	want := len(weightsMagic) + 8*len(f.net.params) + 4
	if len(b) != want || string(b[:len(weightsMagic)]) != weightsMagic {
		return errkind.Errorf(errkind.Invalid, "set weights: %d bytes are not the %d of this network", len(b), want)
	}
	if crc32.Checksum(b[:want-4], castagnoli) != binary.LittleEndian.Uint32(b[want-4:]) {
		return errkind.Errorf(errkind.Invalid, "set weights: the checksum does not fit; copy the file again")
	}
	values := make([]float64, len(f.net.params))
	for i := range values {
		values[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[len(weightsMagic)+8*i:]))
		if !(math.Abs(values[i]) <= lstmMaxSize) {
			return errkind.Errorf(errkind.Invalid, "set weights: weight %d is %v", i, values[i])
		}
	}
	copy(f.net.params, values)
	f.move = newAdam(len(values))
	return nil
}
