// Micro bench of the session alone, by hand: `node --import tsx bench/session-process.ts [SECONDS] [SCENARIO…]`.
// gateway ─TLS─ relay pipe ─TLS─ agent against three plain Node pipes, each its own process, interleaved.
// With PROFILE=DIR in the environment each tunnel process writes a .cpuprofile there.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { encodeHello, type Hello, HelloReader, SESSION_LIMITS } from '../src/protocol/index.ts';
import { SessionCore } from '../src/protocol/session/session-core.ts';
import { NODE_FLAGS, systemClock, uuidv7 } from '../src/runtime/index.ts';
import { createLinkCertificate } from '../src/runtime/tls-material.ts';

const SELF = fileURLToPath(import.meta.url);
const LOOPBACK = '127.0.0.1';
const CHUNK = Buffer.alloc(64 * 1024, 0x61);
const REQUEST = Buffer.alloc(128, 0x62);

// ---- children ----

/** Only the target swallows anything. */
let swallowedBytes = (): number => 0;
process.on('message', () => {
  const { user, system } = process.cpuUsage();
  process.send?.({ swallowed: swallowedBytes(), cpuSeconds: (user + system) / 1e6 });
});

const listen = async (server: Server): Promise<number> => {
  server.listen(0, LOOPBACK);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

const say = (message: object): void => {
  process.send?.(message);
};

const quiet = (socket: Socket): void => {
  socket.on('error', () => socket.destroy());
};

const splice = (a: Socket, b: Socket): void => {
  for (const socket of [a, b]) {
    quiet(socket);
    socket.setNoDelay(true);
  }
  a.pipe(b);
  b.pipe(a);
  a.on('close', () => b.destroy());
  b.on('close', () => a.destroy());
};

const runPipe = async (nextPort: number): Promise<void> => {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    splice(socket, connect({ port: nextPort, host: LOOPBACK, allowHalfOpen: true }));
  });
  say({ port: await listen(server) });
};

/** Joins the gateway's connection and the agent's as bytes; the first two that come are the two. */
const runRelay = async (): Promise<void> => {
  let first: Socket | undefined;
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
    if (first === undefined) {
      first = socket;
      return;
    }
    splice(first, socket);
    first = undefined;
  });
  say({ port: await listen(server) });
};

/** First byte of a connection: U swallow, D send for ever, E echo, S never read. */
const runTarget = async (): Promise<void> => {
  let swallowed = 0;
  const server = createServer({ allowHalfOpen: false, noDelay: true }, (socket) => {
    quiet(socket);
    socket.once('data', (head: Buffer) => {
      const mode = String.fromCharCode(head[0] ?? 0);
      if (mode === 'S') {
        socket.pause();
        return;
      }
      if (mode === 'E') {
        if (head.length > 1) socket.write(head.subarray(1));
        socket.on('data', (data: Buffer) => socket.write(data));
        return;
      }
      if (mode === 'U') {
        socket.on('data', (data: Buffer) => {
          swallowed += data.length;
        });
        return;
      }
      const more = (): void => {
        while (socket.writable && socket.write(CHUNK));
      };
      socket.on('drain', more);
      socket.resume();
      more();
    });
  });
  swallowedBytes = () => swallowed;
  say({ port: await listen(server) });
};

const helloOf = (role: 'gateway' | 'agent'): Hello => ({
  v: 1,
  role,
  namespace: 'bench',
  connection: 'bench',
  link_id: uuidv7(systemClock),
  name: role,
  instance: role,
  session_id: '',
  epoch: 0,
  secret: '',
  limits: SESSION_LIMITS,
  features: [],
  build: 'bench',
});

const shakeHands = async (tls: TLSSocket, own: Hello): Promise<{ peerHello: Hello; leftover: Buffer }> => {
  tls.write(encodeHello(own));
  const reader = new HelloReader();
  return new Promise((resolve) => {
    const onData = (chunk: Buffer): void => {
      const found = reader.push(chunk);
      if (found === undefined) return;
      tls.off('data', onData);
      tls.pause();
      resolve({ peerHello: found.hello, leftover: found.rest });
    };
    tls.on('data', onData);
  });
};

const dialRelay = async (port: number): Promise<Socket> => {
  const raw = connect({ port, host: LOOPBACK, noDelay: true });
  await once(raw, 'connect');
  return raw;
};

const runGateway = async (relayPort: number): Promise<void> => {
  const raw = await dialRelay(relayPort);
  const certificate = await createLinkCertificate('gateway', systemClock);
  const tls = new TLSSocket(raw, {
    isServer: true,
    key: certificate.keyPem,
    cert: certificate.certPem,
    minVersion: 'TLSv1.3',
  });
  const own = helloOf('gateway');
  const session = new SessionCore(
    { duplex: tls, ownHello: own, ...(await shakeHands(tls, own)) },
    { clock: systemClock },
  );
  session.onEnd((end) => console.error('gateway session ended', end));
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
    const meta = { id: uuidv7(systemClock), attempt: 1, kind: 'tcp' as const, claimed: {}, ext: {} };
    session.open(meta, socket, Buffer.alloc(0), {
      onAccept: () => undefined,
      onRefuse: () => socket.destroy(),
      onEnd: () => undefined,
    });
  });
  say({ port: await listen(server) });
};

const runAgent = async (relayPort: number, targetPort: number): Promise<void> => {
  const raw = await dialRelay(relayPort);
  const tls = connectTls({ socket: raw, rejectUnauthorized: false, minVersion: 'TLSv1.3' });
  await once(tls, 'secureConnect');
  const own = helloOf('agent');
  const session = new SessionCore(
    { duplex: tls, ownHello: own, ...(await shakeHands(tls, own)) },
    {
      clock: systemClock,
      onOpen: (incoming) => {
        const socket = connect({
          port: targetPort,
          host: LOOPBACK,
          allowHalfOpen: true,
          noDelay: true,
        });
        const onError = (): void => incoming.refuse('target_unreachable', { movable: true });
        socket.once('error', onError);
        socket.once('connect', () => {
          socket.off('error', onError);
          socket.pause();
          incoming.accept(socket, { decision_id: '' }, () => undefined);
        });
      },
    },
  );
  session.onEnd((end) => console.error('agent session ended', end));
  say({ port: 0 });
};

// ---- the generator ----

const children: ChildProcess[] = [];

const start = async (...args: string[]): Promise<{ child: ChildProcess; port: number }> => {
  const directory = process.env['PROFILE'];
  const profiled =
    directory !== undefined && (args[0] === 'gateway' || args[0] === 'agent')
      ? ['--cpu-prof', `--cpu-prof-dir=${directory}/${args[0]}`]
      : [];
  const child = fork(SELF, args, { execArgv: [...NODE_FLAGS, '--import', 'tsx', ...profiled] });
  children.push(child);
  const [message] = (await once(child, 'message')) as [{ port: number }];
  return { child, port: message.port };
};

interface System {
  readonly name: string;
  readonly port: number;
  readonly target: ChildProcess;
  /** The three processes between generator and target, by name. */
  readonly hops: Readonly<Record<string, ChildProcess>>;
}

const startPipes = async (): Promise<System> => {
  const target = await start('target');
  const third = await start('pipe', String(target.port));
  const second = await start('pipe', String(third.port));
  const first = await start('pipe', String(second.port));
  const hops = { first: first.child, second: second.child, third: third.child };
  return { name: 'pipes', port: first.port, target: target.child, hops };
};

const startTunnel = async (): Promise<System> => {
  const target = await start('target');
  const relay = await start('relay');
  const [gateway, agent] = await Promise.all([
    start('gateway', String(relay.port)),
    start('agent', String(relay.port), String(target.port)),
  ]);
  const hops = { gateway: gateway.child, relay: relay.child, agent: agent.child };
  return { name: 'session', port: gateway.port, target: target.child, hops };
};

const dial = async (system: System, mode: string): Promise<Socket> => {
  const socket = connect({ port: system.port, host: LOOPBACK, noDelay: true });
  quiet(socket);
  await once(socket, 'connect');
  socket.write(mode);
  return socket;
};

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const ask = async (child: ChildProcess): Promise<{ swallowed: number; cpuSeconds: number }> => {
  const answer = once(child, 'message');
  child.send({});
  const [message] = (await answer) as [{ swallowed: number; cpuSeconds: number }];
  return message;
};

const swallowed = async (system: System): Promise<number> => (await ask(system.target)).swallowed;

const cpuOf = async (system: System): Promise<number[]> =>
  Promise.all(Object.values(system.hops).map(async (child) => (await ask(child)).cpuSeconds));

const blast = (socket: Socket): void => {
  const more = (): void => {
    while (socket.writable && socket.write(CHUNK));
  };
  socket.on('drain', more);
  more();
};

const MIB = 1024 * 1024;

const upload = async (system: System, streams: number, ms: number, stalled = 0): Promise<number> => {
  const sockets: Socket[] = [];
  for (let i = 0; i < stalled; i += 1) sockets.push(await dial(system, 'S'));
  for (let i = 0; i < streams; i += 1) sockets.push(await dial(system, 'U'));
  for (const socket of sockets) blast(socket);
  await wait(300);
  const from = await swallowed(system);
  const fromMs = performance.now();
  await wait(ms);
  const bytes = (await swallowed(system)) - from;
  const rate = bytes / MIB / ((performance.now() - fromMs) / 1000);
  for (const socket of sockets) socket.destroy();
  return rate;
};

const download = async (system: System, streams: number, ms: number): Promise<number> => {
  let bytes = 0;
  const sockets: Socket[] = [];
  for (let i = 0; i < streams; i += 1) {
    const socket = await dial(system, 'D');
    socket.on('data', (data: Buffer) => {
      bytes += data.length;
    });
    sockets.push(socket);
  }
  await wait(300);
  const from = bytes;
  const fromMs = performance.now();
  await wait(ms);
  const rate = (bytes - from) / MIB / ((performance.now() - fromMs) / 1000);
  for (const socket of sockets) socket.destroy();
  return rate;
};

/** Request and response of 128 bytes over keep-alive connections, a second. */
const requests = async (system: System, connections: number, ms: number): Promise<number> => {
  let count = 0;
  const sockets: Socket[] = [];
  for (let i = 0; i < connections; i += 1) {
    const socket = await dial(system, 'E');
    let missing = REQUEST.length;
    socket.on('data', (data: Buffer) => {
      missing -= data.length;
      if (missing > 0) return;
      missing = REQUEST.length;
      count += 1;
      socket.write(REQUEST);
    });
    socket.write(REQUEST);
    sockets.push(socket);
  }
  await wait(300);
  const from = count;
  const fromMs = performance.now();
  await wait(ms);
  const rate = (count - from) / ((performance.now() - fromMs) / 1000);
  for (const socket of sockets) socket.destroy();
  return rate;
};

/** Connect, one byte there and back, close, a second. */
const opens = async (system: System, workers: number, ms: number): Promise<number> => {
  let count = 0;
  const endMs = performance.now() + ms;
  const fromMs = performance.now();
  const worker = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const socket = connect({ port: system.port, host: LOOPBACK, noDelay: true });
      quiet(socket);
      socket.write('Ex');
      await once(socket, 'data');
      count += 1;
      socket.end();
      socket.resume();
    }
  };
  await Promise.all(Array.from({ length: workers }, worker));
  return count / ((performance.now() - fromMs) / 1000);
};

const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;

const ping = async (system: System, ms: number): Promise<{ p50: number; p99: number }> => {
  const sockets: Socket[] = [];
  for (let i = 0; i < 4; i += 1) {
    const socket = await dial(system, 'U');
    blast(socket);
    sockets.push(socket);
  }
  const socket = await dial(system, 'E');
  const samples: number[] = [];
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) {
    const fromMs = performance.now();
    socket.write('x');
    await once(socket, 'data');
    samples.push(performance.now() - fromMs);
    await wait(2);
  }
  for (const one of [...sockets, socket]) one.destroy();
  samples.sort((a, b) => a - b);
  return { p50: quantile(samples, 0.5), p99: quantile(samples, 0.99) };
};

type Scenario = (system: System, ms: number) => Promise<number>;

const scenarios: Readonly<Record<string, Scenario>> = {
  'up1 MiB/s': (system, ms) => upload(system, 1, ms),
  'up8 MiB/s': (system, ms) => upload(system, 8, ms),
  'down1 MiB/s': (system, ms) => download(system, 1, ms),
  'down8 MiB/s': (system, ms) => download(system, 8, ms),
  'up7 MiB/s': (system, ms) => upload(system, 7, ms),
  'up7+stalled MiB/s': (system, ms) => upload(system, 7, ms, 1),
  'rr48 /s': (system, ms) => requests(system, 48, ms),
  'open /s': (system, ms) => opens(system, 48, ms),
};

/** Systems are measured in turns, this often; the best rate and the least CPU of each are printed. */
const ROUNDS = 4;

const main = async (seconds: number, wanted: readonly string[]): Promise<void> => {
  const systems = [await startPipes(), await startTunnel()];
  const chosen = (name: string): boolean =>
    wanted.length === 0 || wanted.some((part) => name.startsWith(part));
  for (const [name, run] of Object.entries(scenarios)) {
    if (!chosen(name)) continue;
    const best = new Map<string, number>();
    const costs = new Map<string, number[]>();
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const system of systems) {
        const before = await cpuOf(system);
        const ms = (seconds * 1000) / ROUNDS;
        const rate = await run(system, ms);
        const after = await cpuOf(system);
        // Warm-up and tear-down cost too; over the measured time they are small and the same for both.
        const unit = name.includes('MiB') ? 1024 : 10_000;
        const per = after.map((cpu, i) => ((cpu - (before[i] ?? 0)) / ((rate * ms) / 1000)) * unit);
        const sum = (one: readonly number[]): number => one.reduce((all, cpu) => all + cpu, 0);
        const cheapest = costs.get(system.name);
        if (cheapest === undefined || sum(per) < sum(cheapest)) costs.set(system.name, per);
        best.set(system.name, Math.max(best.get(system.name) ?? 0, rate));
        await wait(100);
      }
    }
    const pipes = best.get('pipes') ?? Number.NaN;
    const session = best.get('session') ?? Number.NaN;
    console.log(
      `${name.padEnd(20)} pipes ${pipes.toFixed(0).padStart(7)}  session ${session.toFixed(0).padStart(7)}  ratio ${(session / pipes).toFixed(2)}` +
        systems
          .map(
            (system) =>
              `  ${system.name} cpu-s/${name.includes('MiB') ? 'GiB' : '10k'} ${(costs.get(system.name) ?? []).map((cpu) => cpu.toFixed(2)).join(' ')}`,
          )
          .join(''),
    );
  }
  if (chosen('ping')) {
    for (const system of systems) {
      const { p50, p99 } = await ping(system, seconds * 1000);
      console.log(
        `ping under 4 uploads ${system.name.padEnd(8)} p50 ${p50.toFixed(2)} ms  p99 ${p99.toFixed(2)} ms`,
      );
    }
  }
  for (const child of children) child.kill('SIGINT');
};

process.on('disconnect', () => process.exit(0));
const [role = 'main', ...rest] = process.argv.slice(2);
process.on('SIGINT', () => process.exit(0));
const [one = '', two = ''] = rest;
switch (role) {
  case 'pipe':
    await runPipe(Number(one));
    break;
  case 'relay':
    await runRelay();
    break;
  case 'target':
    await runTarget();
    break;
  case 'gateway':
    await runGateway(Number(one));
    break;
  case 'agent':
    await runAgent(Number(one), Number(two));
    break;
  default: {
    const seconds = Number(role);
    const given = Number.isNaN(seconds) ? [] : [seconds];
    await main(given[0] ?? 4, role === 'main' ? [] : given.length > 0 ? rest : [role, ...rest]);
  }
}
