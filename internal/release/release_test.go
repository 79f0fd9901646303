package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
}

// tree is what is in a directory: mode, and content or target.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		must(t, err)
		name, err := filepath.Rel(dir, at)
		must(t, err)
		info, err := entry.Info()
		must(t, err)
		switch {
		case entry.IsDir():
			all[name] = info.Mode().String()
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(at)
			must(t, err)
			all[name] = "-> " + target
		default:
			text, err := os.ReadFile(at)
			must(t, err)
			all[name] = info.Mode().String() + " " + string(text)
		}
		return nil
	}))
	delete(all, ".")
	return all
}

func site(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "public", "index.php"), "<?php", 0o664)
	write(t, filepath.Join(dir, "bin", "console"), "#!/bin/sh", 0o755)
	write(t, filepath.Join(dir, "config", "secret.php"), "x", 0o640)
	write(t, filepath.Join(dir, ".git", "config"), "password", 0o644)
	write(t, filepath.Join(dir, "vendor", "a", ".git"), "gitdir: x", 0o644)
	must(t, os.Symlink("../config", filepath.Join(dir, "public", "config")))
	return dir
}

var unpacked = map[string]string{
	"public": "drwxr-xr-x", "public/index.php": "-rw-r--r-- <?php", "public/config": "-> ../config", "bin": "drwxr-xr-x",
	"bin/console": "-rwxr-xr-x #!/bin/sh", "config": "drwxr-xr-x", "config/secret.php": "-rw-r----- x", "vendor": "drwxr-xr-x", "vendor/a": "drwxr-xr-x",
}

func expectTree(t *testing.T, dir string) {
	t.Helper()
	got := tree(t, dir)
	for name, want := range unpacked {
		if got[name] != want {
			t.Errorf("%s is %q, not %q", name, got[name], want)
		}
	}
	if len(got) != len(unpacked) {
		t.Errorf("there are %v", got)
	}
}

// TestRoundTrip: a directory, and archives of it, come out as they were, without what is left out.
func TestRoundTrip(t *testing.T) {
	dir := site(t)
	var plain bytes.Buffer
	out := tar.NewWriter(&plain)
	// Archives round times in their own ways.
	must(t, filepath.WalkDir(dir, func(at string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.Lutimes(at, []unix.Timeval{{Sec: 1700000000}, {Sec: 1700000000}})
	}))
	must(t, out.AddFS(os.DirFS(dir)))
	must(t, out.Close())
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, err := g.Write(plain.Bytes())
	must(t, err)
	must(t, g.Close())
	z, err := zstd.NewWriter(&zst)
	must(t, err)
	_, err = z.Write(plain.Bytes())
	must(t, err)
	must(t, z.Close())
	sources := map[string]string{"directory": dir}
	for name, content := range map[string]bytes.Buffer{"a.tar": plain, "a.tar.gz": gz, "a.tar.zst": zst} {
		sources[name] = filepath.Join(t.TempDir(), name)
		write(t, sources[name], content.String(), 0o600)
	}
	sums := map[string]bool{}
	for name, source := range sources {
		var packed bytes.Buffer
		is, err := Pack(t.Context(), source, &packed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if is.Files != 3 || is.Size != int64(packed.Len()) {
			t.Errorf("%s: %+v, %d bytes", name, is, packed.Len())
		}
		sums[is.SHA256] = true
		into := t.TempDir()
		must(t, Unpack(t.Context(), &packed, is, into, os.Getgid()))
		expectTree(t, into)
	}
	if len(sums) != 1 {
		t.Errorf("the same code has the sums %v", sums)
	}
}

// TestOtherContent: a byte that is another one, missing or too much is refused.
func TestOtherContent(t *testing.T) {
	var packed bytes.Buffer
	is, err := Pack(t.Context(), site(t), &packed)
	must(t, err)
	flipped := bytes.Clone(packed.Bytes())
	flipped[len(flipped)/2] ^= 1
	for name, content := range map[string][]byte{
		"flipped": flipped, "short": packed.Bytes()[:packed.Len()-1], "long": append(bytes.Clone(packed.Bytes()), 0), "none": nil,
	} {
		if err := Unpack(t.Context(), bytes.NewReader(content), is, t.TempDir(), -1); !errors.Is(err, ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fewer := is
	fewer.Bytes--
	if err := Unpack(t.Context(), bytes.NewReader(packed.Bytes()), fewer, t.TempDir(), -1); !errors.Is(err, ErrContent) {
		t.Errorf("longer than announced: %v", err)
	}
}

// TestArchivesThatEscape are refused when they are packed, and when they are unpacked by who did not check.
func TestArchivesThatEscape(t *testing.T) {
	file := func(name string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}
	}
	dir := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	link := func(name, target string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}
	}
	for name, list := range map[string][]*tar.Header{
		"up":                  {file("../evil")},
		"absolute":            {file("/etc/evil")},
		"up inside":           {dir("a"), file("a/../../evil")},
		"absolute link":       {link("a", "/etc")},
		"link out":            {dir("a"), link("a/b", "../../etc")},
		"link through links":  {link("s", "."), link("k", "s/s/../../etc")},
		"below a link":        {dir("a"), link("b", "a"), file("b/evil")},
		"below a file":        {file("a"), file("a/b")},
		"twice":               {file("a"), file("./a")},
		"link made a file":    {link("a", "b"), file("a")},
		"setuid":              {{Name: "a", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 1}},
		"setgid":              {{Name: "a", Typeflag: tar.TypeReg, Mode: 0o2755, Size: 1}},
		"device":              {{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"fifo":                {{Name: "a", Typeflag: tar.TypeFifo}},
		"hard link":           {file("a"), {Name: "b", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"control characters":  {file("a\nb")},
		"link without a name": {link("a", "")},
	} {
		var plain bytes.Buffer
		out := tar.NewWriter(&plain)
		for _, head := range list {
			must(t, out.WriteHeader(head))
			if head.Typeflag == tar.TypeReg {
				_, err := out.Write([]byte("x"))
				must(t, err)
			}
		}
		must(t, out.Close())
		source := filepath.Join(t.TempDir(), "a.tar")
		write(t, source, plain.String(), 0o600)
		var packed bytes.Buffer
		if _, err := Pack(t.Context(), source, &packed); err == nil {
			t.Errorf("%s: it is packed", name)
		}
		// As one that nobody checked would be.
		u := &unpacker{entries: entries{made: map[string]byte{}}, group: -1, most: Packed{Files: 10, Bytes: 10}}
		top := t.TempDir()
		into := filepath.Join(top, "into")
		must(t, os.Mkdir(into, 0o755))
		root, err := os.OpenRoot(into)
		must(t, err)
		u.root = root
		var zst bytes.Buffer
		z, err := zstd.NewWriter(&zst)
		must(t, err)
		_, err = z.Write(plain.Bytes())
		must(t, err)
		must(t, z.Close())
		if err := u.all(&zst); err == nil {
			t.Errorf("%s: it is unpacked", name)
		}
		must(t, root.Close())
		if got := tree(t, top); len(got) > 4 || got["evil"] != "" {
			t.Errorf("%s: there are %v", name, got)
		}
	}
}

// TestNotToBePacked: what is no code is refused with its name.
func TestNotToBePacked(t *testing.T) {
	dir := site(t)
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	if _, err := Pack(t.Context(), dir, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), `"pipe"`) {
		t.Errorf("a fifo: %v", err)
	}
	empty := t.TempDir()
	if _, err := Pack(t.Context(), empty, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("an empty one: %v", err)
	}
	text := filepath.Join(empty, "text")
	write(t, text, strings.Repeat("no archive ", 100), 0o600)
	if _, err := Pack(t.Context(), text, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "no tar archive") {
		t.Errorf("a text: %v", err)
	}
}

// FuzzUnpack: whatever the archive is, nothing is made outside of the directory.
func FuzzUnpack(f *testing.F) {
	var plain bytes.Buffer
	out := tar.NewWriter(&plain)
	_ = out.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(1, 0)})
	_ = out.WriteHeader(&tar.Header{Name: "a/l", Typeflag: tar.TypeSymlink, Linkname: "../b", Mode: 0o777})
	_ = out.Close()
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		top := t.TempDir()
		into := filepath.Join(top, "into")
		must(t, os.Mkdir(into, 0o755))
		root, err := os.OpenRoot(into)
		must(t, err)
		u := &unpacker{entries: entries{made: map[string]byte{}}, root: root, group: -1, most: Packed{Files: 100, Bytes: 1 << 20}}
		in := tar.NewReader(bytes.NewReader(content))
		for {
			head, err := in.Next()
			if err != nil || u.one(head, in) != nil {
				break
			}
		}
		must(t, root.Close())
		entries, err := os.ReadDir(top)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("there are %v", entries)
		}
	})
}
