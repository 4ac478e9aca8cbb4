import { parentPort, workerData } from 'node:worker_threads';
import { BuiltinNeededError, loadEngine } from '../engine/wasm.ts';
import type { TrialJob, TrialMessage, TrialResult } from './trial.ts';

const { program, entrypoint, inputs } = workerData as TrialJob;

const post = (message: TrialMessage): void => parentPort?.postMessage(message);

const run = async (): Promise<TrialResult> => {
  try {
    const engine = await loadEngine(program);
    return { kind: 'answers', answers: inputs.map((input) => engine.evaluate(entrypoint, input)) };
  } catch (thrown) {
    if (thrown instanceof BuiltinNeededError) return { kind: 'builtins', names: thrown.names };
    // Aborts inside wasm arrive as plain strings.
    return { kind: 'failed', detail: thrown instanceof Error ? thrown.message : String(thrown) };
  }
};

post({ kind: 'started' });
void run().then(post);
