package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/provider"
)

// keeping is where a control node keeps the passwords of the farm's accounts.
type keeping interface {
	Passwords() (provider.Passwords, error)
	KeepPasswords(provider.Passwords) error
}

// passwords are those of the farm's accounts: the registry's, in a record that only
// control nodes can read. The first that finds none there writes those that it has, or
// new ones. While the registry cannot be reached, those kept here will do. local says that the farm
// answers on this machine only.
func (f *following) passwords(ctx context.Context, here keeping, local bool) (provider.Passwords, error) {
	kept, err := here.Passwords()
	if err != nil {
		return kept, err
	}
	for {
		p, err := readPasswords(ctx, f.client)
		if errors.Is(err, registry.ErrUnavailable) && kept.Whole() {
			f.o.Log.Warn("the farm's passwords are those kept here: the registry does not answer", zap.Error(err))
			return kept, nil
		}
		if err != nil {
			return p, err
		}
		if p.Whole() {
			return p, here.KeepPasswords(p)
		}
		data, err := json.Marshal(provider.NewPasswords(kept, local))
		if err != nil {
			return p, fmt.Errorf("the farm's passwords: %w", err)
		}
		// Whose is first counts; then it is read again.
		if err := f.client.Replace(ctx, records.passwords, nil, data); err != nil && !errors.Is(err, registry.ErrChanged) {
			return p, fmt.Errorf("the farm's passwords: %w", err)
		}
	}
}

// readPasswords returns what the registry has; the zero value if it has none.
func readPasswords(ctx context.Context, client *registry.Client) (p provider.Passwords, err error) {
	data, err := client.Read(ctx, records.passwords)
	if err != nil || data == nil {
		return p, err
	}
	if err := json.Unmarshal(data, &p); err != nil || !p.Whole() {
		return p, errors.New("the farm's passwords in the registry cannot be read") // without the text: it may be one
	}
	return p, nil
}
