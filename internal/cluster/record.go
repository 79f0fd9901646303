package cluster

import (
	"encoding/json"
	"fmt"
)

// encoded is the value of what stands in the registry; what names it in an error.
func encoded(v any, what string) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return data, nil
}

// decoded reads a value.
func decoded[T any](data []byte, what string) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return v, nil
}
