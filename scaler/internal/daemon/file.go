package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/farmfile"
)

// File is the farm file as the registry keeps it.
type File struct {
	Path string `json:"path"` // where it was applied from
	Text string `json:"text"`
	// Directory is a local farm's, if it is not the one that the text says.
	Directory string    `json:"directory,omitempty"`
	By        string    `json:"by"`
	At        time.Time `json:"at"`
}

// Farm is what the file says.
func (f *File) Farm() (*farmfile.Farm, error) {
	farm, err := farmfile.Parse(f.Path, []byte(f.Text))
	if err != nil {
		return nil, fmt.Errorf("the farm file that was applied at %s: %w", f.At.Local().Format(time.DateTime), err)
	}
	if local := farm.Provider.Parameters.Local; local != nil && f.Directory != "" {
		local.Directory = f.Directory
	}
	return farm, nil
}

// RolesDigest is a name for what a farm file says of the roles: who asks that instances
// are as it says can tell by it whether the scaler that leads goes by that file.
func RolesDigest(f *farmfile.Farm) (string, error) {
	text, err := yaml.Marshal(f.Roles)
	if err != nil {
		return "", fmt.Errorf("digest of a farm file: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12]), nil
}

func readFile(data []byte) (*File, error) {
	if data == nil {
		return nil, nil
	}
	f := &File{}
	if err := json.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("the farm file in the registry cannot be read: %w", err)
	}
	return f, nil
}

// Applied returns the farm file that the scalers go by, nil if there is none yet, and
// its raw form for [Apply].
func Applied(ctx context.Context, client *registry.Client) (*File, []byte, error) {
	data, err := client.Read(ctx, records.file)
	if err != nil {
		return nil, nil, err
	}
	f, err := readFile(data)
	return f, data, err
}

// Apply makes f the farm file that the scalers go by, in the place of was. Its error
// is [registry.ErrChanged] if somebody else was quicker.
func Apply(ctx context.Context, client *registry.Client, f File, was []byte) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("apply a farm file: %w", err)
	}
	return client.Replace(ctx, records.file, was, data)
}

// records are what the scalers keep for each other.
var records = struct {
	file   registry.Record // by who applies
	view   registry.Record // what the leader sees and thinks, for people
	memory registry.Record // what the next leader has to know
	// passwords are those of the farm's accounts
	passwords registry.Record
	rotation  registry.Record // the last change of passwords, while it goes on with these
}{controlRecord("farmfile"), controlRecord("view"), controlRecord("memory"), controlRecord(control.PasswordsRecord), controlRecord("rotation")}

func controlRecord(name string) registry.Record {
	r, err := registry.ControlRecord(name)
	if err != nil {
		panic(err) // the names are above
	}
	return r
}
