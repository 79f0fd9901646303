// Command scaler runs and looks after farms. Today it runs a whole farm on one
// machine, "scaler up --local DIR", judges the file that says what a farm is to be,
// "scaler check FILE", and runs the registry that a farm's nodes share, "scaler
// registry".
package main
