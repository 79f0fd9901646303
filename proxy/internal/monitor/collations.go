package monitor

import (
	"context"
	"fmt"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// Collation is one collation of one character set.
type Collation struct {
	ID      uint16
	Name    string // in full: "utf8mb4_uca1400_ai_ci", not "uca1400_ai_ci"
	Charset string
	Default bool // it is its character set's default as compiled in
}

// Collations are the collations of one version of one server. They differ from
// version to version, in number and in what an id means.
type Collations struct {
	byID     map[uint16]Collation
	byName   map[string]Collation
	defaults map[string]Collation
}

// ByID returns the collation with that id.
func (c *Collations) ByID(id uint16) (Collation, bool) {
	col, ok := c.byID[id]
	return col, ok
}

// ByName returns the collation of that full name, in whatever case.
func (c *Collations) ByName(name string) (Collation, bool) {
	col, ok := c.byName[strings.ToLower(name)]
	return col, ok
}

// DefaultOf returns a character set's default collation. A server may have
// another in force: MariaDB's character_set_collations, MySQL's
// default_collation_for_utf8mb4.
func (c *Collations) DefaultOf(charset string) (Collation, bool) {
	col, ok := c.defaults[strings.ToLower(charset)]
	return col, ok
}

// readCollations asks a server for its collations.
//
// MariaDB 10.10 has collations for several character sets at once: they are
// listed without an id in information_schema.COLLATIONS, and once for every
// character set, with id and full name, in
// COLLATION_CHARACTER_SET_APPLICABILITY.
func readCollations(ctx context.Context, conn *mysqladmin.Conn) (*Collations, error) {
	sql := "SELECT ID AS id, COLLATION_NAME AS name, CHARACTER_SET_NAME AS charset, IS_DEFAULT AS isdefault" +
		" FROM information_schema.COLLATIONS WHERE ID IS NOT NULL"
	if conn.Flavor() == farm.MariaDB && conn.Greeting().VersionNumber() >= 101001 {
		sql = "SELECT ID AS id, FULL_COLLATION_NAME AS name, CHARACTER_SET_NAME AS charset, IS_DEFAULT AS isdefault" +
			" FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
	}
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read collations: %w", err)
	}
	c := &Collations{
		byID:     make(map[uint16]Collation, len(rows)),
		byName:   make(map[string]Collation, len(rows)),
		defaults: make(map[string]Collation),
	}
	for _, row := range rows {
		id, ok := row.Int("id")
		if !ok || id <= 0 || id > 1<<16-1 {
			continue
		}
		col := Collation{
			ID:      uint16(id),
			Name:    row.String("name"),
			Charset: row.String("charset"),
			Default: strings.EqualFold(row.String("isdefault"), "Yes"),
		}
		c.byID[col.ID] = col
		c.byName[strings.ToLower(col.Name)] = col
		if col.Default {
			c.defaults[strings.ToLower(col.Charset)] = col
		}
	}
	if len(c.byID) == 0 {
		return nil, fmt.Errorf("read collations: the server names none")
	}
	return c, nil
}
