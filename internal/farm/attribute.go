package farm

import "fmt"

// The attributes by which the nodes of a farm tell each other of themselves.
const (
	RoleAttribute   = "role"   // what the farm file calls the node's role
	SlotAttribute   = "slot"   // its place among the role's nodes, 1 or more
	SlotsAttribute  = "slots"  // how many of these there are at the least
	HealthAttribute = "health" // HealthUnwell, or not there
)

// HealthUnwell is that a node's health checks have failed, or a program of its does not run.
const HealthUnwell = "unwell"

// MaxSlot is the highest place among a role's nodes.
const MaxSlot = 1000

// Bounds of what a node says of itself.
const (
	maxAttributes = 32
	maxAttribute  = 255 // bytes
)

// CheckAttributes says what is wrong with what a node says of itself.
func CheckAttributes(attributes map[string]string) error {
	if len(attributes) > maxAttributes {
		return fmt.Errorf("there are %d attributes; expected at most %d", len(attributes), maxAttributes)
	}
	for name, value := range attributes {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
		if len(value) > maxAttribute {
			return fmt.Errorf("attribute %s has %d bytes; expected at most %d", name, len(value), maxAttribute)
		}
		for _, c := range []byte(value) {
			if c < ' ' || c == 0x7f {
				return fmt.Errorf("attribute %s: %q has control characters", name, value)
			}
		}
	}
	return nil
}
