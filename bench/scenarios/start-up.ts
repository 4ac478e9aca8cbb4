import { connect } from 'node:net';
import { startTarget } from '../load/generator.ts';
import { patternAt } from '../load/pattern.ts';
import { encodeRequest, MODE } from '../load/request.ts';
import { makeStateDirectory, portOfListen, startUp } from '../tunnels/sallyport.ts';
import type { Measurement } from './scenario.ts';

/** Resolves with the first byte that comes back through the tunnel. */
const firstByte = (port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const seed = 1;
    socket.on('error', reject);
    socket.once('data', () => {
      socket.destroy();
      resolve();
    });
    socket.write(
      encodeRequest({ mode: MODE.echo, seed, durationMs: 0, requestBytes: 64, responseBytes: 64 }),
    );
    socket.write(patternAt(seed, 64));
  });

const timeOf = async (
  targetPort: number,
  stateDirectory: string,
): Promise<{ readyMs: number; byteMs: number }> => {
  const started = performance.now();
  const up = await startUp(targetPort, stateDirectory);
  try {
    await firstByte(portOfListen(up.ready.connections[0]?.listen ?? ''));
    return { readyMs: up.readyMs, byteMs: performance.now() - started };
  } finally {
    await up.stop();
  }
};

/** From the start of `sallyport up` to the first byte through its tunnel, on new state and on old. */
export const measureStartUp = async (): Promise<Measurement> => {
  const target = await startTarget();
  const state = makeStateDirectory();
  try {
    const first = await timeOf(target.port, state.path);
    const later = await timeOf(target.port, state.path);
    return {
      later_first_byte_ms: later.byteMs,
      first_first_byte_ms: first.byteMs,
      first_ready_ms: first.readyMs,
      later_ready_ms: later.readyMs,
    };
  } finally {
    state.remove();
    await target.close();
  }
};
