package mariabackup

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// stream is what mbstream makes of files.
func stream(t *testing.T, files map[string]string) []byte {
	t.Helper()
	program, err := exec.LookPath("mbstream")
	if err != nil {
		t.Skipf("needs mbstream: %v", err)
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "-c")
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(cmd.Args, name)
	}
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestThePositionIsFoundInTheStream(t *testing.T) {
	large := string(make([]byte, 100000))
	for name, c := range map[string]struct {
		files map[string]string
		want  string // empty: an error
	}{
		"a primary": {map[string]string{"ibdata1": large, "xtrabackup_binlog_info": "binlog.000002\t330\t0-1-7\n"}, "0-1-7"},
		"a replica": {map[string]string{
			"ibdata1": large, "xtrabackup_binlog_info": "binlog.000002\t330\t0-1-9\n",
			"xtrabackup_slave_info": "SET GLOBAL gtid_slave_pos = '0-1-7,1-2-3';\nCHANGE MASTER TO master_use_gtid = slave_pos\n",
		}, "0-1-7,1-2-3"},
		"newer names":                {map[string]string{"mariadb_backup_binlog_info": "binlog.000002\t330\t0-1-7\n"}, "0-1-7"},
		"a replica without GTIDs":    {map[string]string{"xtrabackup_binlog_info": "b\t1\t0-1-9\n", "xtrabackup_slave_info": "CHANGE MASTER TO MASTER_LOG_FILE='b'"}, ""},
		"no binlog":                  {map[string]string{"ibdata1": large}, ""},
		"a position that is not one": {map[string]string{"xtrabackup_binlog_info": "b\t1\tx\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			all := stream(t, c.files)
			for _, piece := range []int{1, 7, 4096, len(all)} {
				f := new(PositionFinder)
				for rest := all; len(rest) > 0; {
					n := min(piece, len(rest))
					if _, err := f.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				got, err := f.Position()
				if got != c.want || (err == nil) != (c.want != "") {
					t.Errorf("in pieces of %d: %q, %v", piece, got, err)
				}
			}
			f := new(PositionFinder)
			if _, err := f.Write(all[:len(all)-1]); err != nil {
				t.Fatal(err)
			}
			if p, err := f.Position(); err == nil {
				t.Errorf("of a stream that ends too early: %q", p)
			}
		})
	}
}

func FuzzPositionFinder(f *testing.F) {
	f.Add([]byte("XBSTCK01\x00P\x01\x00\x00\x00a\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00xXBSTCK01\x00E\x01\x00\x00\x00a"), 3)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		whole, parted := new(PositionFinder), new(PositionFinder)
		_, _ = whole.Write(b) // never fails
		at = min(max(at, 0), len(b))
		_, _ = parted.Write(b[:at])
		_, _ = parted.Write(b[at:])
		p, perr := whole.Position()
		q, qerr := parted.Position()
		if p != q || (perr == nil) != (qerr == nil) {
			t.Errorf("%q %v, in two pieces %q %v", p, perr, q, qerr)
		}
	})
}
