// Command scaler runs and looks after farms. "scaler run DIR" is the daemon of a
// control node: the registry that the farm's nodes share, and the scaler that leads,
// or waits to. "scaler up --local DIR" is that and a whole farm on one machine, in the
// foreground. The other commands look at a farm, ask the scaler that leads for
// something, or are about the farm file and the registry.
package main
