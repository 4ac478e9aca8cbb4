import { constants, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import {
  ENTRYPOINT,
  type EvaluationRequest,
  SHARED,
  type WorkerMessage,
  type WorkerOutcome,
  type WorkerSettings,
} from './messages.ts';
import { parseResult } from './result.ts';
import { BuiltinNeededError, loadEngine, type WasmEngine } from './wasm.ts';

const NS_PER_US = 1_000;
const MAX_DETAIL = 300;

const settings = workerData as WorkerSettings;
const { shared } = settings;
const port = parentPort;
if (port === null) throw new Error('engine-worker runs in a worker thread only');

// Of this thread alone: Linux keeps a niceness per thread. Elsewhere it would be the whole agent's.
if (settings.isBackground && process.platform === 'linux') setPriority(constants.priority.PRIORITY_LOW);

/** Aborts inside wasm arrive as plain strings. */
const detailOf = (thrown: unknown): string =>
  (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, MAX_DETAIL);

const post = (message: WorkerMessage): void => port.postMessage(message);

const usSince = (startedNs: bigint): number =>
  Math.round(Number(process.hrtime.bigint() - startedNs) / NS_PER_US);

interface Target {
  address?: string;
}

/** Every candidate of one request; `threw` when the instance may no longer be used. */
const evaluate = (
  engine: WasmEngine,
  request: EvaluationRequest,
  startedNs: bigint,
): { outcome: WorkerOutcome; threw: boolean } => {
  const verdicts: unknown[] = [];
  try {
    const input = JSON.parse(request.input) as Record<string, unknown> & { target: Target };
    for (const address of request.addresses) {
      input.target.address = address;
      const parsed = parseResult(engine.evaluate(ENTRYPOINT[request.action], input));
      if (!parsed.ok) {
        const outcome = { kind: 'error', detail: parsed.detail, evalUs: usSince(startedNs) } as const;
        return { outcome, threw: false };
      }
      verdicts.push(parsed.verdict);
    }
    return { outcome: { kind: 'verdicts', verdicts, evalUs: usSince(startedNs) }, threw: false };
  } catch (thrown) {
    const detail = detailOf(thrown);
    return { outcome: { kind: 'error', detail, evalUs: usSince(startedNs) }, threw: true };
  }
};

const load = async (): Promise<WasmEngine | undefined> => {
  try {
    return await loadEngine(settings.program);
  } catch (thrown) {
    const code = thrown instanceof BuiltinNeededError ? 'ERR_POLICY_BUILTIN' : 'ERR_POLICY_ENGINE';
    post({ kind: 'failed', code, detail: detailOf(thrown) });
    return undefined;
  }
};

let engine: WasmEngine | undefined;

/** Evaluates in order until the instance throws; true when it did. */
const runBatch = (requests: readonly EvaluationRequest[]): boolean => {
  const outcomes: string[] = [];
  let spoiled = false;
  for (const request of requests) {
    if (engine === undefined || spoiled) break;
    const startedNs = process.hrtime.bigint();
    Atomics.store(shared, SHARED.index, BigInt(outcomes.length));
    Atomics.store(shared, SHARED.startedNs, startedNs);
    const { outcome, threw } = evaluate(engine, request, startedNs);
    Atomics.store(shared, SHARED.startedNs, 0n);
    outcomes.push(JSON.stringify(outcome));
    spoiled = threw;
  }
  post({ kind: 'done', outcomes, spoiled });
  return spoiled;
};

// Nothing is sent before `ready`, so no evaluation can meet an instance that threw.
const start = (): void => {
  engine = undefined;
  void load().then((loaded) => {
    engine = loaded;
    if (loaded !== undefined) post({ kind: 'ready' });
  });
};

port.on('message', (requests: readonly EvaluationRequest[]) => {
  if (runBatch(requests)) start();
});
post({ kind: 'begun' });
start();
