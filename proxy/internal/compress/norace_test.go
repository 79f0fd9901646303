//go:build !race

package compress

const raceAllocs = 0
