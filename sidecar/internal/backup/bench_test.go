package backup_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"farmhand/internal/farmtest"
	"farmhand/internal/mariabackup"
	"farmhand/internal/objects"
	"farmhand/sidecar/internal/backup"
)

// BenchmarkFullBackup compares a full backup with "mariadb-backup | zstd" into a
// file, on data of which half can be compressed.
func BenchmarkFullBackup(b *testing.B) {
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		b.Skipf("needs zstd: %v", err)
	}
	f := farmtest.Start(b, farmtest.Options{})
	fill(b, f.Primary(), 200)
	for range 200 {
		f.Primary().Exec(b, "INSERT INTO app.item (data) SELECT CONCAT(GROUP_CONCAT(MD5(RAND()))) FROM app.seq_1_to_30000")
	}
	s3 := farmtest.StartS3(b)
	store, _ := directory(b)
	stores := map[string]objects.Store{"directory": store, "S3": open(b, objects.Config{
		Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: s3.Endpoint(),
	})}
	b.Run("pipe", func(b *testing.B) {
		for b.Loop() {
			path := filepath.Join(b.TempDir(), "backup")
			out, err := os.Create(path)
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
			if err := mariabackup.Stream(b.Context(), f.Primary().Config(), "bench", count); err != nil {
				b.Fatal(err)
			}
			if err := in.Close(); err != nil {
				b.Fatal(err)
			}
			if err := zip.Wait(); err != nil {
				b.Fatal(err)
			}
			if err := out.Sync(); err != nil {
				b.Fatal(err)
			}
			info, err := out.Stat()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(count.n)
			b.ReportMetric(float64(info.Size())/float64(count.n), "stored/byte")
			if err := out.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, store := range stores {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m, err := backup.Take(b.Context(), of(b, f.Primary(), store))
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(m.Bytes)
				b.ReportMetric(float64(m.Stored())/float64(m.Bytes), "stored/byte")
			}
		})
	}
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
