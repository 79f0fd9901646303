package provider

import (
	"context"
	"fmt"
	"time"

	"farmhand/scaler/internal/farmfile"
)

// Image is what an instance had when it was copied: others are launched from it.
type Image struct {
	// Name is NAME-VERSION, the version a time.
	Name string `json:"name"`
	// ID is what the farm file calls it, in a role's image.
	ID string `json:"id"`
	// From is the instance that it was made of; empty if the provider does not know.
	From string    `json:"from,omitempty"`
	Made time.Time `json:"made"`
	// Ready says that instances can be launched from it.
	Ready bool `json:"ready"`
	// Files, Bytes and Sum (of SHA-256, over all names, modes and contents) are what is in
	// it, LeftOut is what is not; of an image of the local provider.
	Files   int       `json:"files,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	Sum     string    `json:"sum,omitempty"`
	LeftOut []LeftOut `json:"left_out,omitempty"`
}

// LeftOut is something that the instance had and its image has not.
type LeftOut struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Imager makes images of a provider's instances. Its methods may be called from any
// goroutine, and by several scalers at a time.
type Imager interface {
	// MakeImage makes an image of an instance that runs, and returns when others can be
	// launched from it. It can be repeated, also where it was cut short: a name that there
	// is already, of the same instance, is that image.
	MakeImage(ctx context.Context, instance, name string) (Image, error)
	// Images returns those that there are, the oldest first.
	Images(ctx context.Context) ([]Image, error)
	// RemoveImage removes an image. It can be repeated. Whether somebody uses it is for the
	// caller to know.
	RemoveImage(ctx context.Context, name string) error
}

// ImageName is the name of the image that is made at a time. Its error says what is
// wrong with name.
func ImageName(name string, at time.Time) (string, error) {
	full := name + "-" + at.UTC().Format("20060102-150405")
	return full, checkImageName(full)
}

func checkImageName(name string) error {
	if !farmfile.ImageName.MatchString(name) {
		return fmt.Errorf("%q is no name of an image; expected up to 40 of the characters a-z 0-9 -, and its time, as in web-20260102-150405", name)
	}
	return nil
}
