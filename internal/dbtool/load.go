package dbtool

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"farmhand/internal/dbserver"
)

// Load has the server that runs in c, whose socket is socket, execute a dump. Nothing of it is
// logged. client is the server's command-line client, with arguments that have to come first.
func Load(ctx context.Context, c dbserver.Config, socket, name string, client []string, dump io.Reader) (err error) {
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	admin.Address = socket
	options, err := OptionFile(c, "load", "client", admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(options)) }()
	return Program{
		Server: c, Name: name, In: io.MultiReader(strings.NewReader("SET SESSION sql_log_bin=OFF;\n"), dump),
		Args: append(client, "--defaults-file="+options, "--binary-mode", "--max-allowed-packet=1G"),
	}.Run(ctx)
}
