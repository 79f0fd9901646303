package volumemark

import "testing"

func TestMark(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir, "db-1", "db1"); err == nil {
		t.Error("a mark where there is none")
	}
	want := Mark{"db-1", "db1", 3}
	if err := Write(dir, want); err != nil {
		t.Fatal(err)
	}
	if m, err := Read(dir, "db-1", "db1"); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	for _, other := range [][2]string{{"db-2", "db1"}, {"db-1", "db2"}} {
		if m, err := Read(dir, other[0], other[1]); err == nil {
			t.Errorf("%v: %+v", other, m)
		}
	}
}
