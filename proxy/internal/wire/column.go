package wire

import "encoding/binary"

// AppendTextColumn appends the definition of a VARCHAR column, for results that
// the proxy makes itself.
func AppendTextColumn(dst []byte, name string, collation uint16, caps Capability) []byte {
	const fieldVarString = 0xfd
	dst = AppendLenEncString(dst, "def")
	for _, s := range []string{"", "", "", name, ""} { // schema, table, original table, name, original name
		dst = AppendLenEncString(dst, s)
	}
	if caps.Has(MariaDBExtendedMetadata) {
		dst = append(dst, 0)
	}
	dst = append(dst, 0x0c)
	dst = binary.LittleEndian.AppendUint16(dst, collation)
	dst = binary.LittleEndian.AppendUint32(dst, 4096)
	return append(dst, fieldVarString, 0, 0, 0, 0, 0)
}
