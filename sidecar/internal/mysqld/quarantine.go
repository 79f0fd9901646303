package mysqld

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// quarantine keeps, as readable SQL, the transactions that are on this server only,
// before its data is thrown away: somebody may have been told that they were
// committed. Without errant transactions it does nothing. Of broken data, which nobody can
// ask for them, it keeps the binlogs as they are.
func (a *Agent) quarantine(ctx context.Context, o *order) error {
	if a.look().broken != "" {
		return a.keepBinlogs()
	}
	was := a.memory.kept()
	c := comparison{Errant: was.Errant, After: was.ErrantAfter}
	if c.Errant == "" {
		return nil
	}
	path := a.quarantined(".sql")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the errant transactions: %w", err)
	}
	logs, err := binlogs(filepath.Join(a.o.Server.Dir, "data"))
	if err != nil {
		return fmt.Errorf("keep the errant transactions: %w", err)
	}
	if err := a.export(ctx, o, c, logs, path); err != nil {
		return fmt.Errorf("keep the errant transactions %s before the data is thrown away: %w", c.Errant, err)
	}
	a.o.Log.Warn("errant transactions kept", zap.String("transactions", c.Errant), zap.String("file", path))
	return nil
}

// keepBinlogs moves the binlogs out of data that is to be thrown away.
func (a *Agent) keepBinlogs() error {
	logs, err := binlogs(filepath.Join(a.o.Server.Dir, "data"))
	if err != nil || len(logs) == 0 {
		return err
	}
	dir := a.quarantined("-binlogs")
	err = os.MkdirAll(dir, 0o700)
	for _, log := range logs {
		if err == nil {
			err = os.Rename(log, filepath.Join(dir, filepath.Base(log)))
		}
	}
	if err != nil {
		return fmt.Errorf("keep the binlogs of broken data: %w", err)
	}
	a.o.Log.Warn("binlogs of broken data kept: what only this server may have is in them", zap.String("directory", dir), zap.Int("files", len(logs)))
	return nil
}

// quarantined is where something is kept, by the time.
func (a *Agent) quarantined(suffix string) string {
	return filepath.Join(a.o.Server.Dir, "quarantine", time.Now().UTC().Format("20060102T150405.000")+suffix)
}

// binlogs are the server's, oldest first.
func binlogs(data string) ([]string, error) {
	logs, err := filepath.Glob(filepath.Join(data, "binlog.[0-9]*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(logs)
	return logs, nil
}

// export writes the part of the binlogs in which the errant transactions are. It is
// whole or not there.
func (a *Agent) export(ctx context.Context, o *order, c comparison, logs []string, path string) (err error) {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path + ".new")
		}
	}()
	_, err = fmt.Fprintf(file, "-- Transactions of %s that %s, the source of its new data, did not have: %s.\n"+
		"-- Written before the old data was thrown away. Read it before anything of it is executed.\n", a.o.Name, o.part.Source, c.Errant)
	if err == nil && len(logs) > 0 {
		err = a.readBinlogs(ctx, slices.Concat(a.dialect.errantOnly(c), logs), file)
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readBinlogs has the server's own program write what the arguments say.
func (a *Agent) readBinlogs(ctx context.Context, arguments []string, to *os.File) error {
	tool, err := a.o.Install.Tool(a.dialect.binlogTool)
	if err != nil {
		return err
	}
	argv := slices.Concat(tool, arguments)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var complaints strings.Builder
	cmd.Stdout, cmd.Stderr = to, &complaints
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", a.dialect.binlogTool, err, strings.TrimSpace(complaints.String()))
	}
	return nil
}
