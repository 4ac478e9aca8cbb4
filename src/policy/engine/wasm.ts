import { loadPolicy } from '@open-policy-agent/opa-wasm';
import { ENTRYPOINT, type EngineProgram } from './messages.ts';

const PAGE_BYTES = 64 * 1024;
/** Parsed data takes about this many times its JSON text; growing page by page instead costs seconds. */
const MEMORY_PER_DATA_BYTE = 16;
const BASE_BYTES = 4 * 1024 * 1024;
/** What evaluations may use beyond data before the engine traps. */
const EVALUATION_BYTES = 64 * 1024 * 1024;
/** No engine's memory exceeds this. */
const MAX_BYTES = 2 * 1024 * 1024 * 1024;

/** Builtins named in an error. */
const MAX_NAMED = 8;

const pages = (bytes: number): number => Math.ceil(Math.min(bytes, MAX_BYTES) / PAGE_BYTES);

interface OpaExports {
  builtins(): number;
  opa_json_dump(address: number): number;
}

/** One instance of a policy. After any throw it must be discarded: its stack pointer is not restored. */
export interface WasmEngine {
  /**
   * The result set of one entrypoint.
   * @param input a plain object; anything else would silently be "no input"
   * @throws whatever the instance throws
   */
  evaluate(entrypoint: string, input: Readonly<Record<string, unknown>>): unknown;
}

const readText = (memory: WebAssembly.Memory, address: number): string => {
  const bytes = new Uint8Array(memory.buffer);
  return new TextDecoder().decode(bytes.subarray(address, bytes.indexOf(0, address)));
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The document that rules see as `data`, grants replaced where they come from a file. */
export const documentOf = (
  program: Pick<EngineProgram, 'dataText' | 'grantsText'>,
): Record<string, unknown> => {
  const data: unknown = JSON.parse(program.dataText);
  if (!isObject(data)) throw new Error('data.json is not an object');
  if (program.grantsText === undefined) return data;
  const sallyport = isObject(data['sallyport']) ? data['sallyport'] : {};
  return { ...data, sallyport: { ...sallyport, grants: JSON.parse(program.grantsText) as unknown } };
};

/** The policy needs builtins that only a host could offer; there are none. */
export class BuiltinNeededError extends Error {
  readonly names: readonly string[];

  constructor(names: readonly string[]) {
    super(`the bundle needs builtins that do not run inside wasm: ${names.slice(0, MAX_NAMED).join(', ')}`);
    this.names = names;
  }
}

/**
 * Instantiates a policy with its data. Errors are plain ones: this runs in a worker thread that loads as little as
 * possible, and the main thread makes an AppError of what it is told.
 * @throws BuiltinNeededError; Error for anything else that keeps the policy from running
 */
export const loadEngine = async (program: EngineProgram): Promise<WasmEngine> => {
  const document = documentOf(program);
  const dataBytes = program.dataText.length + (program.grantsText?.length ?? 0);
  const initialBytes = BASE_BYTES + MEMORY_PER_DATA_BYTE * dataBytes;
  const policy = await loadPolicy(program.module, {
    initial: pages(initialBytes),
    maximum: pages(initialBytes + EVALUATION_BYTES),
  });
  const instance = policy.wasmInstance as WebAssembly.Instance;
  const exports = instance.exports as unknown as OpaExports;
  const builtins = JSON.parse(readText(policy.mem, exports.opa_json_dump(exports.builtins()))) as object;
  const needed = Object.keys(builtins);
  if (needed.length > 0) throw new BuiltinNeededError(needed);
  const entrypoints = policy.entrypoints as Readonly<Record<string, number>>;
  const missing = Object.values(ENTRYPOINT).filter((name) => !Object.hasOwn(entrypoints, name));
  if (missing.length > 0) throw new Error(`the bundle lacks the entrypoint ${missing.join(' and ')}`);
  policy.setData(document);
  return { evaluate: (entrypoint, input): unknown => policy.evaluate(input, entrypoint) };
};
