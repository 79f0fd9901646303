package backup_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mariabackup"
	"farmhand/internal/objects"
	"farmhand/sidecar/internal/backup"
)

// BenchmarkFullBackup compares a full backup with "mariadb-backup | zstd" into a
// file, on data of which half can be compressed. Both are done in turns, so that what else
// the machine does meets them alike. It reports how fast each is, and the backup's part of
// the other's time and of the processors that it has used, the children's included.
func BenchmarkFullBackup(b *testing.B) { compare(b, farm.MariaDB, mariaPipe) }

// BenchmarkFullBackupOfMySQL compares one with what a person would do with the same plugin: a
// local clone, tar and zstd.
func BenchmarkFullBackupOfMySQL(b *testing.B) { compare(b, farm.MySQL, mysqlPipe) }

// compare compares backups of a flavor with a stream into zstd.
func compare(b *testing.B, flavor farm.Flavor, stream func(*testing.B, *farmtest.Server, io.Writer) error) {
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		b.Skipf("needs zstd: %v", err)
	}
	f := farmtest.Start(b, farmtest.Options{Flavor: flavor})
	fill(b, f.Primary(), 200)
	for range 200 {
		f.Primary().Exec(b, "INSERT INTO app.item (data) SELECT REPEAT(SHA2(RAND(), 256), 15000)")
	}
	if flavor == farm.MySQL {
		f.Primary().Exec(b, "INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
	}
	s3 := farmtest.StartS3(b)
	store, _ := directory(b)
	stores := map[string]objects.Store{"directory": store, "S3": open(b, objects.Config{
		Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: s3.Endpoint(),
	})}
	for name, store := range stores {
		b.Run(name, func(b *testing.B) {
			var ours, pipes cost
			for turn := 0; b.Loop(); turn++ {
				both := []func(){
					func() { pipes.add(b, func() (int64, int64) { return pipe(b, zstd, f.Primary(), stream) }) },
					func() {
						ours.add(b, func() (int64, int64) {
							m, err := backup.Take(b.Context(), of(b, f.Primary(), store))
							if err != nil {
								b.Fatal(err)
							}
							return m.Bytes, m.Stored()
						})
					},
				}
				both[turn%2]()
				both[1-turn%2]()
			}
			for unit, c := range map[string]cost{"backup": ours, "pipe": pipes} {
				b.ReportMetric(float64(c.bytes)/1e6/c.took.Seconds(), unit+"-MB/s")
				b.ReportMetric(float64(c.stored)/float64(c.bytes), unit+"-stored/byte")
			}
			b.ReportMetric(ours.took.Seconds()/pipes.took.Seconds(), "time/pipe")
			b.ReportMetric(ours.cpu.Seconds()/pipes.cpu.Seconds(), "cpu/pipe")
		})
	}
}

// pipe is what is compared with.
func pipe(b *testing.B, zstd string, s *farmtest.Server, stream func(*testing.B, *farmtest.Server, io.Writer) error) (bytes, stored int64) {
	b.Helper()
	out, err := os.Create(filepath.Join(b.TempDir(), "backup"))
	if err != nil {
		b.Fatal(err)
	}
	zip := exec.Command(zstd)
	in, err := zip.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	zip.Stdout = out
	if err := zip.Start(); err != nil {
		b.Fatal(err)
	}
	count := &counting{to: in}
	if err := errors.Join(stream(b, s, count), in.Close(), zip.Wait(), out.Sync()); err != nil {
		b.Fatal(err)
	}
	info, err := out.Stat()
	if err := errors.Join(err, out.Close(), os.Remove(out.Name())); err != nil {
		b.Fatal(err)
	}
	return count.n, info.Size()
}

func mariaPipe(b *testing.B, s *farmtest.Server, to io.Writer) error {
	return mariabackup.Stream(b.Context(), s.Config(), "bench", to)
}

func mysqlPipe(b *testing.B, s *farmtest.Server, to io.Writer) error {
	dir := filepath.Join(s.Config().Dir, "bench")
	s.Exec(b, "CLONE LOCAL DATA DIRECTORY='"+dir+"'")
	tar := exec.Command("tar", "-C", dir, "-c", ".")
	tar.Stdout = to
	return errors.Join(tar.Run(), os.RemoveAll(dir))
}

// cost is what something took, all times together.
type cost struct {
	bytes, stored int64
	took, cpu     time.Duration
}

func (c *cost) add(b *testing.B, do func() (bytes, stored int64)) {
	b.Helper()
	used, began := usedNow(b), time.Now()
	bytes, stored := do()
	c.took += time.Since(began)
	c.cpu += usedNow(b) - used
	c.bytes += bytes
	c.stored += stored
}

// usedNow is for how long processors have worked for this process and those of its children
// that have ended.
func usedNow(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

type counting struct {
	to io.Writer
	n  int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}
