// Package consistency knows what a read must see and who has it: the levels of
// freshness, the farm's position as the primary tells it (a read index), and
// how far each server is known to have come since it was last probed.
//
// A position is compared only with positions of the same epoch: every change of
// primary may lose transactions that were on the old primary alone, and
// numbers them anew.
package consistency
