package mysqld

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
)

func (a *Agent) copyData(ctx context.Context, o *order) error {
	if a.o.Cloner == nil {
		return errors.New("this sidecar cannot copy data: mysql.clone_listen is not set")
	}
	return fmt.Errorf("clone from %s: not yet", o.part.Source)
}

var _ = zap.String
var _ = cluster.Copying
var _ = dbserver.Nothing
