package main

import (
	"math/bits"
	"time"
)

// latencies counts durations in buckets that are at most 1.6 % wide.
type latencies struct {
	counts [64 * 60]uint32
	total  uint64
}

// bucketOf keeps the seven leading bits of a number of nanoseconds.
func bucketOf(ns uint64) int {
	shift := max(0, bits.Len64(ns)-7)
	return shift*64 + int(ns>>shift)
}

// middleOf is the middle of a bucket, in nanoseconds.
func middleOf(bucket int) float64 {
	shift := max(0, bucket/64-1)
	low := uint64(bucket-shift*64) << shift
	return float64(low) + float64(uint64(1)<<shift-1)/2
}

func (l *latencies) add(d time.Duration, n uint32) {
	l.counts[bucketOf(uint64(max(0, d)))] += n
	l.total += uint64(n)
}

// quantile is the duration that the share q of them does not exceed, in
// milliseconds; 0 without any.
func (l *latencies) quantile(q float64) float64 {
	var seen uint64
	for i, n := range l.counts {
		if seen += uint64(n); n > 0 && float64(seen) >= q*float64(l.total) {
			return middleOf(i) / 1e6
		}
	}
	return 0
}
