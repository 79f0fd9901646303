// Command scaler runs and looks after farms. Today it runs a whole farm on one
// machine, "scaler up --local DIR", and the registry that a farm's nodes share,
// "scaler registry".
package main
