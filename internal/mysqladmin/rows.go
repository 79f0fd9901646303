package mysqladmin

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// Row is one row of a result. Columns are found by name, without regard to
// case.
type Row struct {
	columns map[string]int // lower-case name -> place; shared by a result's rows
	values  []*string      // nil is NULL
}

func rowsOf(rs *mysql.Resultset) ([]Row, error) {
	if rs == nil {
		return nil, nil
	}
	columns := make(map[string]int, len(rs.Fields))
	for i, f := range rs.Fields {
		name := strings.ToLower(string(f.Name))
		if _, taken := columns[name]; !taken {
			columns[name] = i
		}
	}
	rows := make([]Row, rs.RowNumber())
	for i := range rows {
		rows[i] = Row{columns: columns, values: make([]*string, len(rs.Fields))}
		for k := range rs.Fields {
			null, err := rs.IsNull(i, k)
			if err != nil {
				return nil, err
			}
			if null {
				continue
			}
			v, err := rs.GetString(i, k)
			if err != nil {
				return nil, err
			}
			// The client reuses the memory behind its strings.
			v = strings.Clone(v)
			rows[i].values[k] = &v
		}
	}
	return rows, nil
}

// First returns the value of the first column, whatever it is called; empty for NULL.
func (r Row) First() string {
	if len(r.values) == 0 || r.values[0] == nil {
		return ""
	}
	return *r.values[0]
}

// Get returns the value of the first of the named columns that the result has,
// and whether there is one that is not NULL. Servers renamed columns: the
// names are the old and the new one.
func (r Row) Get(names ...string) (string, bool) {
	for _, name := range names {
		if i, ok := r.columns[strings.ToLower(name)]; ok {
			if v := r.values[i]; v != nil {
				return *v, true
			}
			return "", false
		}
	}
	return "", false
}

// String is Get with the empty string for what is absent or NULL.
func (r Row) String(names ...string) string {
	v, _ := r.Get(names...)
	return v
}

// Int returns a column as a number, and whether it is one.
func (r Row) Int(names ...string) (int64, bool) {
	v, ok := r.Get(names...)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

// Text returns an SQL expression for a text value, whatever is in it and
// whatever the server's sql_mode says about backslashes.
func Text(s string) string {
	if s == "" {
		return "''"
	}
	return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'"
}
