import { spawn } from 'node:child_process';
import { Agent, request } from 'node:http';
import { findOpa } from '../../src/policy/tool/opa.ts';
import { freePort } from '../../test/support/free-port.ts';
import { endProcess } from '../load/child.ts';

const READY_DEADLINE_MS = 120_000;
const POLL_MS = 20;
const MAX_CONNECTIONS = 64;
const OK = 200;

export interface OpaServer {
  readonly pid: number;
  /** From its start to its health answer, the policy loaded. */
  readonly readyMs: number;
  /** Whether it allows the stream. */
  ask(input: string): Promise<boolean>;
  close(): Promise<void>;
}

/** OPA's own server on loopback over a policy directory, asked over connections that are kept alive. */
export const startOpa = async (directory: string): Promise<OpaServer> => {
  const port = await freePort();
  const opa = await findOpa();
  const startedMs = performance.now();
  const child = spawn(
    opa,
    [
      ...['run', '--server', '--addr', `127.0.0.1:${port}`, '--log-level', 'error', '--skip-version-check'],
      ...['--ignore', '*_test.rego', '-b', '.'],
    ],
    { cwd: directory, stdio: ['ignore', 'ignore', 'inherit'] },
  );
  // Whatever ends this process ends the server.
  process.once('exit', () => child.kill());
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_CONNECTIONS, noDelay: true });
  const send = (method: string, path: string, body: string): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const asked = request({ host: '127.0.0.1', port, method, path, agent, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      asked.on('error', reject);
      asked.end(body);
    });
  const close = async (): Promise<void> => {
    agent.destroy();
    await endProcess(child);
  };
  try {
    for (;;) {
      const status = await send('GET', '/health', '').then(
        (answer) => answer.status,
        () => 0,
      );
      if (status === OK) break;
      if (child.exitCode !== null || performance.now() - startedMs > READY_DEADLINE_MS)
        throw new Error('opa does not answer');
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    pid: child.pid ?? 0,
    readyMs: performance.now() - startedMs,
    async ask(input) {
      const { text } = await send('POST', '/v1/data/sallyport/decision/stream', `{"input":${input}}`);
      return (JSON.parse(text) as { result?: { allow?: unknown } }).result?.allow === true;
    },
    close,
  };
};
