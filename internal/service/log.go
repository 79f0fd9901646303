package service

import (
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// LogConfig is how a program logs.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // console or json
}

// DefaultLog is what a program logs like unless told otherwise.
func DefaultLog() LogConfig { return LogConfig{Level: "info", Format: "console"} }

// Validate says what is wrong with the configuration; path is where it stands.
func (c LogConfig) Validate(path string) Problems {
	var p Problems
	p.OneOf(path+".level", c.Level, "debug", "info", "warn", "error")
	p.OneOf(path+".format", c.Format, "console", "json")
	return p
}

// Of one message in one second, the first logged in full and then every
// hundredth: a fault that hits every connection must not become a second one.
const (
	sampleTick       = time.Second
	sampleFirst      = 100
	sampleThereafter = 100
)

// NewLogger returns a logger that writes to w (usually standard error) and the
// level by which its volume can be changed while it runs. What it logs, and what
// it leaves out because the same message came too often, is counted in metrics.
func NewLogger(w io.Writer, c LogConfig, metrics prometheus.Registerer) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, level, fmt.Errorf("log level: %w", err)
	}
	entries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "farmhand_log_entries_total",
		Help: "Log entries written, by level.",
	}, []string{"level"})
	dropped := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "farmhand_log_entries_dropped_total",
		Help: "Log entries left out because the same message came too often within a second.",
	})
	for _, collector := range []prometheus.Collector{entries, dropped} {
		if err := metrics.Register(collector); err != nil {
			return nil, level, fmt.Errorf("log metrics: %w", err)
		}
	}

	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.MessageKey = "message"
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	var encoder zapcore.Encoder
	switch c.Format {
	case "json":
		encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		encoder = zapcore.NewJSONEncoder(encoding)
	case "console":
		encoding.EncodeTime = zapcore.ISO8601TimeEncoder
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(encoding)
	default:
		return nil, level, fmt.Errorf("log format %q: expected console or json", c.Format)
	}

	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)
	core = zapcore.RegisterHooks(core, func(entry zapcore.Entry) error {
		entries.WithLabelValues(entry.Level.String()).Inc()
		return nil
	})
	core = zapcore.NewSamplerWithOptions(core, sampleTick, sampleFirst, sampleThereafter,
		zapcore.SamplerHook(func(_ zapcore.Entry, decision zapcore.SamplingDecision) {
			if decision&zapcore.LogDropped != 0 {
				dropped.Inc()
			}
		}))
	return zap.New(core), level, nil
}
