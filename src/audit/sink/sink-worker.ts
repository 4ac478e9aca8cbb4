import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { systemClock, type Timer } from '../../runtime/index.ts';
import { Backlog } from './backlog.ts';
import type { LiveSink } from './feed.ts';
import type {
  FromSinks,
  SinkName,
  SinksToSpool,
  SinkWorkerOptions,
  SpoolToSinks,
  ToSinks,
} from './messages.ts';
import { readPosition, writePosition } from './position-file.ts';
import { SinkRunner } from './runner.ts';
import { SyslogSink } from './syslog-sink.ts';

/** Status is told at most this often. */
const STATUS_MS = 250;

const port = parentPort;
if (port === null) throw new Error('sink-worker runs as a worker thread');
const { options, spoolPort } = workerData as { options: SinkWorkerOptions; spoolPort: MessagePort };
const { spoolDir, settings, hostName } = options;
const tell = (message: FromSinks): void => port.postMessage(message);

/** The packages of OpenTelemetry are loaded where they are used, and nowhere else. */
const openSinks = async (): Promise<[SinkName, LiveSink][]> => {
  const sinks: [SinkName, LiveSink][] = [];
  if (settings.syslog !== undefined)
    sinks.push(['syslog', new SyslogSink(settings.syslog, hostName, systemClock)]);
  if (settings.otlp !== undefined) {
    const { OtlpSink } = await import('./otlp-sink.ts');
    sinks.push(['otlp', new OtlpSink(settings.otlp, hostName, systemClock)]);
  }
  return sinks;
};

const sinks = await openSinks();
let wantedFrom = -1;
let statusTimer: Timer | undefined;

const tellStatus = (): void => {
  statusTimer?.cancel();
  statusTimer = undefined;
  tell({ kind: 'status', sinks: runners.map(({ status }) => status) });
};

const onChange = (): void => {
  statusTimer ??= systemClock.after(STATUS_MS, tellStatus);
  const wanted = Math.min(...runners.map((runner) => runner.wantedFrom));
  if (runners.length < sinks.length || wanted <= wantedFrom) return;
  wantedFrom = wanted;
  spoolPort.postMessage({ wantedFrom } satisfies SinksToSpool);
};

let allTold: () => void = () => undefined;
const told = new Promise<void>((resolve) => {
  allTold = resolve;
});

const runners: SinkRunner[] = [];
for (const [name, sink] of sinks) {
  runners.push(
    new SinkRunner({
      name,
      sink,
      backlog: new Backlog(spoolDir, readPosition(spoolDir, name)),
      clock: systemClock,
      save: (position) => writePosition(spoolDir, name, position),
      say: (line) => tell({ kind: 'log', ...line }),
      onChange,
    }),
  );
}

spoolPort.on('message', (message: SpoolToSinks) => {
  for (const runner of runners) {
    if (message.kind === 'sealed') runner.sealed(message.runs);
    else if (message.kind === 'released') runner.released(message.segment);
  }
  if (message.kind === 'final') allTold();
});

const close = async ({ deadlineMs }: ToSinks): Promise<void> => {
  const late = systemClock.after(deadlineMs, () => allTold());
  await told;
  late.cancel();
  await Promise.all(runners.map((runner) => runner.close(deadlineMs)));
  tellStatus();
  tell({ kind: 'closed' });
  spoolPort.close();
  port.close();
};
port.on('message', (message: ToSinks) => void close(message));
