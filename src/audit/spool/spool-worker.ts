import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { foreignCodeOf, isAppError, messageOf, systemClock, type Timer } from '../../runtime/index.ts';
import { openAuditKey } from '../seal/audit-key.ts';
import type { SinksToSpool } from '../sink/messages.ts';
import { diskFiles, hookedFiles } from './file-layer.ts';
import { SEAL_AFTER_MS } from './group.ts';
import { JsonlSink } from './jsonl-sink.ts';
import { type FromSpool, MAX_GROUP_EVENTS, type SpoolWorkerOptions, type ToSpool } from './messages.ts';
import { SinkHolds } from './sink-holds.ts';
import { Spool } from './spool.ts';

/** After a failure the disk is tried again this often, so that a process comes back by itself. */
const PROBE_MS = 1_000;

type Append = Extract<ToSpool, { kind: 'append' }>;

const port = parentPort;
if (port === null) throw new Error('spool-worker runs as a worker thread');
const options = workerData as SpoolWorkerOptions;
const tell = (message: FromSpool): void => port.postMessage(message);

/** Whether a batch is gone from the disk, rather than out of reach for now. */
const isLost = (thrown: unknown): boolean =>
  isAppError(thrown, 'ERR_AUDIT_SPOOL_OPEN') || foreignCodeOf(thrown) === 'ENOENT';

const serve = (spool: Spool, sink: JsonlSink | undefined, holds: SinkHolds | undefined): void => {
  let sealTimer: Timer | undefined;
  let probeTimer: Timer | undefined;
  let exporting = false;
  let exportWarned = false;

  const exportNext = (): void => {
    const batch = spool.nextToExport();
    if (sink === undefined || batch === undefined) {
      exporting = false;
      spool.tidy();
      tell({ kind: 'state', state: spool.state() });
      return;
    }
    try {
      const { chain, first, batch: number } = batch.signed.seal;
      sink.write(chain, first, spool.eventsOf(batch));
      spool.exportedTo({ chain, batch: number });
      exportWarned = false;
      setImmediate(exportNext);
    } catch (thrown) {
      if (!exportWarned) tell({ kind: 'warning', message: `jsonl sink: ${messageOf(thrown)}` });
      exportWarned = true;
      systemClock.after(PROBE_MS, exportNext).unref();
    }
  };
  const startExport = (): void => {
    if (sink === undefined || exporting) return;
    exporting = true;
    setImmediate(exportNext);
  };

  const probeLater = (): void => {
    probeTimer ??= systemClock.after(PROBE_MS, () => {
      probeTimer = undefined;
      if (!spool.probe()) probeLater();
      tell({ kind: 'state', state: spool.state() });
    });
  };
  const sealLater = (): void => {
    if (!spool.unsealed) {
      sealTimer?.cancel();
      sealTimer = undefined;
      return;
    }
    sealTimer ??= systemClock.after(SEAL_AFTER_MS, () => {
      sealTimer = undefined;
      try {
        spool.seal(false);
      } catch {
        probeLater();
        sealLater();
      }
      tell({ kind: 'state', state: spool.state() });
      startExport();
    });
  };

  /** Writes the events of several messages as one group and answers each message. */
  const append = (messages: readonly Append[]): void => {
    const before = spool.state().lastBatch;
    const current: Append[] = [];
    for (const message of messages) {
      if (message.chain === spool.chain) current.push(message);
      else tell({ kind: 'appended', state: spool.state(), seqs: [], outcomes: [], stale: true });
    }
    try {
      const { seqs, outcomes, dropped } = spool.append(current.flatMap(({ items }) => items));
      const state = spool.state();
      let at = 0;
      for (const { items } of current) {
        const end = at + items.length;
        tell({ kind: 'appended', state, seqs: seqs.slice(at, end), outcomes: outcomes.slice(at, end) });
        at = end;
      }
      if (dropped > 0) tell({ kind: 'gap', dropped });
    } catch (thrown) {
      const failure = { seqs: [], outcomes: [], error: messageOf(thrown) };
      for (let count = 0; count < current.length; count += 1)
        tell({ kind: 'appended', state: spool.state(), ...failure });
      probeLater();
    }
    // After the answers: nobody waits for it.
    try {
      spool.giveUpHeld();
    } catch (thrown) {
      tell({ kind: 'warning', message: `spool clean-up: ${messageOf(thrown)}` });
    }
    if (spool.state().lastBatch !== before) {
      sealTimer?.cancel();
      sealTimer = undefined;
      startExport();
    }
    sealLater();
  };

  const pull = (maxBytes: number): void => {
    try {
      const outgoing = spool.pull(maxBytes);
      tell({ kind: 'pulled', outgoing, state: spool.state() });
    } catch (thrown) {
      tell({
        kind: 'pulled',
        outgoing: undefined,
        error: messageOf(thrown),
        damaged: isLost(thrown) ? spool.oldestChain : undefined,
        state: spool.state(),
      });
    }
  };

  const seal = (final: boolean): void => {
    let error: { error: string } | undefined;
    try {
      spool.seal(final);
    } catch (thrown) {
      error = { error: messageOf(thrown) };
      probeLater();
    }
    if (final) holds?.final();
    tell({ kind: 'sealed', state: spool.state(), ...error });
    startExport();
  };

  const end = (): void => {
    sealTimer?.cancel();
    probeTimer?.cancel();
    while (sink !== undefined && exporting) {
      const before = spool.state().unexported;
      exportNext();
      if (spool.state().unexported === before) break;
    }
    try {
      spool.close();
    } catch (thrown) {
      tell({ kind: 'warning', message: `spool close: ${messageOf(thrown)}` });
    }
    tell({ kind: 'closed', state: spool.state() });
    options.live?.port.close();
    port.close();
  };

  const acknowledge = (message: Extract<ToSpool, { kind: 'acknowledge' }>): void => {
    try {
      spool.acknowledge(message);
    } catch (thrown) {
      tell({ kind: 'warning', message: `spool clean-up: ${messageOf(thrown)}` });
    }
    tell({ kind: 'state', state: spool.state() });
  };

  const refuse = (chain: string): void => {
    try {
      const previous = spool.refuse(chain);
      tell({ kind: 'refused', state: spool.state(), previous });
    } catch (thrown) {
      tell({
        kind: 'refused',
        state: spool.state(),
        previous: { chain, batch: 0 },
        error: messageOf(thrown),
      });
    }
  };

  const handle = {
    append: (message: Append) => append([message]),
    pull: (message: Extract<ToSpool, { kind: 'pull' }>) => pull(message.maxBytes),
    acknowledge,
    refuse: (message: Extract<ToSpool, { kind: 'refuse' }>) => refuse(message.chain),
    seal: (message: Extract<ToSpool, { kind: 'seal' }>) => seal(message.final),
    close: end,
  } satisfies { [K in ToSpool['kind']]: (message: Extract<ToSpool, { kind: K }>) => void };

  const take = (message: ToSpool): void => (handle[message.kind] as (message: ToSpool) => void)(message);
  const nextMessage = (): ToSpool | undefined =>
    (receiveMessageOnPort(port) as { readonly message: ToSpool } | undefined)?.message;

  // Appends that came during a sync share the next one.
  port.on('message', (message: ToSpool) => {
    const appends: Append[] = [];
    let next: ToSpool | undefined = message;
    let count = 0;
    while (next?.kind === 'append' && count < MAX_GROUP_EVENTS) {
      appends.push(next);
      count += next.items.length;
      next = nextMessage();
    }
    if (appends.length > 0) append(appends);
    if (next !== undefined) take(next);
  });
  options.live?.port.on('message', ({ wantedFrom }: SinksToSpool) => {
    if (holds === undefined) return;
    holds.wantedFrom = wantedFrom;
    try {
      spool.tidy();
    } catch (thrown) {
      tell({ kind: 'warning', message: `spool clean-up: ${messageOf(thrown)}` });
    }
  });
  startExport();
};

try {
  const key = openAuditKey(options.keyFile);
  const sink = options.jsonlDir === undefined ? undefined : new JsonlSink(options.jsonlDir, systemClock);
  const { live } = options;
  const holds =
    live === undefined
      ? undefined
      : new SinkHolds(live.backlogBytes, (message) => live.port.postMessage(message));
  const spool = new Spool({
    directory: options.spoolDir,
    key,
    files: options.files === undefined ? diskFiles : hookedFiles(options.files),
    clock: systemClock,
    maxSpoolBytes: options.maxSpoolBytes,
    shareFromPercent: options.shareFromPercent,
    mode: options.mode,
    sinks: { delivers: options.delivers, exports: sink !== undefined },
    holds,
  });
  serve(spool, sink, holds);
  tell({
    kind: 'ready',
    state: spool.state(),
    signer: key.signer,
    publicKey: key.publicKey,
    previous: spool.previous,
    broken: spool.broken,
    lost: spool.lostStreams(),
  });
} catch (thrown) {
  tell({
    kind: 'failedToOpen',
    code: isAppError(thrown) ? thrown.code : 'ERR_AUDIT_SPOOL_OPEN',
    message: messageOf(thrown),
  });
  port.close();
}
