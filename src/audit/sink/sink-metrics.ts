import { Counter, Gauge } from 'prom-client';
import { METRIC_PREFIX, type Registry } from '../../runtime/index.ts';
import type { SinkStatus } from './messages.ts';

const PREFIX = `${METRIC_PREFIX}audit_sink_`;
const labelNames = ['sink'];

/** Registers the metrics of live sinks; they are read when scraped, and there is none of a sink that is not set. */
export const registerSinkMetrics = (registry: Registry, read: () => readonly SinkStatus[]): void => {
  const registers = [registry];
  const count = (name: string, help: string, of: (sink: SinkStatus) => number): void => {
    new Counter({
      name: `${PREFIX}${name}_total`,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const sink of read()) this.inc({ sink: sink.name }, of(sink));
      },
    });
  };
  const gauge = (name: string, help: string, of: (sink: SinkStatus) => number): void => {
    new Gauge({
      name: `${PREFIX}${name}`,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const sink of read()) this.set({ sink: sink.name }, of(sink));
      },
    });
  };
  count('sent', 'Events that the receiver has taken.', ({ sent }) => sent);
  count('failed', 'Attempts that came to nothing; their events are sent again.', ({ failed }) => failed);
  count('dropped', 'Events that the sink will not get.', ({ dropped }) => dropped);
  count(
    'unconfirmed',
    'Events counted as sent although the receiver does not confirm them.',
    ({ unconfirmed }) => unconfirmed,
  );
  gauge('up', '1 while the last attempt went well.', ({ state }) => Number(state === 'ok'));
  gauge('backlog_events', 'Sealed events that the sink does not have yet.', (sink) => sink.backlog_events);
  gauge('backlog_bytes', 'Bytes of those in the spool.', (sink) => sink.backlog_bytes);
};
