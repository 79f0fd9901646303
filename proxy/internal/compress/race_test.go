//go:build race

package compress

// The race detector has sync.Pool drop things at random.
const raceAllocs = 20
