// A collector of OpenTelemetry: its own receiver of OTLP, and behind it an exporter that writes what comes as the lines of
// OTLP's JSON. Run as every collector: `collector --config FILE`.
package main

import (
	"context"
	"log"
	"os"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

type config struct {
	Path string `mapstructure:"path"`
}

func lines(ctx context.Context, set exporter.CreateSettings, cfg component.Config) (exporter.Logs, error) {
	file, err := os.OpenFile(cfg.(*config).Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	push := func(_ context.Context, logs plog.Logs) error {
		text, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
		if err == nil {
			_, err = file.Write(append(text, '\n'))
		}
		return err
	}
	return exporterhelper.NewLogsExporter(ctx, set, cfg, push)
}

func main() {
	factories := otelcol.Factories{}
	var err error
	if factories.Receivers, err = receiver.MakeFactoryMap(otlpreceiver.NewFactory()); err != nil {
		log.Fatal(err)
	}
	empty := func() component.Config { return &config{} }
	ours := exporter.NewFactory("lines", empty, exporter.WithLogs(lines, component.StabilityLevelStable))
	if factories.Exporters, err = exporter.MakeFactoryMap(ours); err != nil {
		log.Fatal(err)
	}
	info := component.BuildInfo{Command: "collector", Version: "1"}
	if err := otelcol.NewCommand(otelcol.CollectorSettings{BuildInfo: info, Factories: factories}).Execute(); err != nil {
		log.Fatal(err)
	}
}
