import { endProcess, forkProcess, portOf } from './child.ts';
import type {
  BulkCommand,
  BulkResult,
  IdleCommand,
  LoadCommand,
  OpensCommand,
  PacedOpensCommand,
  PingResult,
  PingsCommand,
  RateResult,
  RequestsCommand,
  StalledCommand,
} from './loads.ts';

/** The load generator's process, as the scenarios see it. */
export class Generator {
  readonly #child = forkProcess('./generator-process.ts');
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #ids = 0;

  constructor() {
    this.#child.on('message', (message) => {
      const { id, result, error } = message as { id: number; result?: never; error?: string };
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result as never);
      else waiting?.reject(new Error(`generator: ${error}`));
    });
    this.#child.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the generator ended'));
    });
  }

  run(command: BulkCommand | StalledCommand): Promise<BulkResult>;
  run(command: RequestsCommand | OpensCommand | PacedOpensCommand): Promise<RateResult>;
  run(command: PingsCommand): Promise<PingResult>;
  run(command: IdleCommand): Promise<{ streams: number; stoppedBy?: string }>;
  run(command: LoadCommand): Promise<unknown> {
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, command });
    });
  }

  close(): Promise<void> {
    return endProcess(this.#child);
  }
}

/** The private service that the tunnels lead to. */
export const startTarget = async (): Promise<{ port: number; close(): Promise<void> }> => {
  const child = forkProcess('./target-process.ts');
  return { port: await portOf(child), close: () => endProcess(child) };
};
