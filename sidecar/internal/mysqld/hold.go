package mysqld

import (
	"context"
	"fmt"
)

// hold has the server receive nothing more, and go on applying what it has.
func (a *Agent) hold(ctx context.Context, p picture) error {
	f, err := a.facts(ctx, p)
	if err != nil {
		return err
	}
	if !f.readOnly {
		if err := a.refuseWrites(ctx, p); err != nil {
			return err
		}
	}
	if f.channel == nil {
		return nil // it follows nobody
	}
	// The applier first: if both threads stand still, what was received is lost.
	if err := a.keepApplying(ctx, p, f); err != nil {
		return err
	}
	if f.receiving() {
		if err := a.exec(ctx, p, a.dialect.stopReceiver); err != nil {
			return err
		}
	}
	if f, err = a.facts(ctx, p); err != nil {
		return err
	}
	if f.receiving() || !f.applying() {
		return fmt.Errorf("receiver %s, applier %s: %v", f.channel.Receiver, f.channel.Applier, f.channel.ApplierError)
	}
	return nil
}
