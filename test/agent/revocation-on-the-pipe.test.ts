import assert from 'node:assert/strict';
import { writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { endedByReset } from '../../src/protocol/session/reset-detection.ts';
import { formatConnectionString, newKeyText } from '../../src/identity/index.ts';
import { DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { NAMESPACE, type Relay, startRelayNode } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { dial, listen } from '../support/sockets.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { startTestAgent, startTestGateway, statusOf, untilReady } from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const RUNS = 100;
/** Each way; protocol.md, Revocation on the pipe. */
const CONTROL_DELAY_MS = 500;
const DEADLINE_MS = 60_000;
const FLOOD = Buffer.alloc(1024 * 1024);
const SIP_BYTES = 512;
const SIP_EVERY_MS = 20;
/** Runs at a time: kernels keep some 16 MiB for each, and an agent takes 16 handshakes at once. */
const ROUND = 14;
const MAX_OPENS = 5;

const names = Array.from({ length: RUNS }, (_, index) => `db-${index}`);
const numberOf = (name: string): number => Number(name.slice('db-'.length));
const sendKey = (name: string): string => `k_send-${name}`;
const listenKey = (name: string): string => `k_listen-${name}`;

const connectionString = (keyName: string, entityPath: string): string =>
  formatConnectionString({ host: NAMESPACE, keyName, key: newKeyText(), entityPath });

/** Floods its peer as long as anything is taken, and reads it at a trickle; how it ended. */
const clog = (socket: Socket, sip: Set<Socket>): Promise<string> => {
  const flood = (): void => {
    while (socket.writable && socket.write(FLOOD));
  };
  flood();
  socket.on('drain', flood);
  socket.pause();
  sip.add(socket);
  return new Promise((resolve) => {
    const over = (how: string): void => {
      sip.delete(socket);
      resolve(how);
    };
    socket.once('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
    socket.once('end', () => over(endedByReset(socket) ? 'ECONNRESET' : 'fin'));
    socket.once('close', () => over('closed'));
  });
};

/** Resolves once the kernels of both ends have taken nothing more for a while that the trickle explains. */
const untilClogged = async (sockets: readonly Socket[]): Promise<void> => {
  let left: readonly number[] = [];
  await eventually(
    'the kernels are full',
    () => {
      const before = left;
      left = sockets.map((socket) => socket.writableLength);
      return left.every((bytes, index) => bytes > 0 && bytes === before[index]) ? true : undefined;
    },
    DEADLINE_MS,
  );
};

/** What `/status` of a gateway says of its connections. */
interface Shown {
  readonly connection: string;
  readonly failures: readonly { readonly reason: string }[];
}

/** A stream whose both ends are clogged; resolves with how each ends, once they have. */
interface Clogged {
  readonly name: string;
  readonly sockets: readonly [Socket, Socket];
  readonly ends: Promise<readonly [string, string]>;
}

/**
 * `RUNS` connections, each with its own two keys, from two gateways to one agent. Control links are late by
 * `CONTROL_DELAY_MS` each way; the second gateway's data links can be stalled, so that its pipes' end comes after
 * the notice and not before.
 */
const startAll = async (t: TestContext) => {
  const relay = await startRelayNode();
  const control = await startTcpProxy(t, relay.port, { delayMs: CONTROL_DELAY_MS });
  const data = await startTcpProxy(t, relay.port);
  const at = (dataPort: number): Relay => ({
    ...relay,
    config: { ...relay.config, control_port: control.port, data_ports: [dataPort] },
  });
  let onTarget: (socket: Socket) => void = () => undefined;
  const target = await listen(t, (socket) => onTarget(socket));
  for (const name of names) {
    relay.control.addConnection(name);
    relay.control.addKey(sendKey(name), name, ['Send']);
    relay.control.addKey(listenKey(name), name, ['Listen']);
    const record = relay.control.connectionRecords.get(name);
    assert.ok(record);
    const address = { host: '127.0.0.1', port: target.port };
    relay.control.connectionRecords.set(name, { ...record, target: address });
  }
  const audit = new MemoryAudit();
  const bundle = developmentBundle(
    readFileSync(DEFAULT_BUNDLE_FILE),
    names.map((name) => ({ name, host: '127.0.0.1', port: target.port })),
  );
  const bundleFile = join(temporaryDirectory(t, 'bundle'), 'bundle.tar.gz');
  writeFileSync(bundleFile, bundle);
  const { agent } = await startTestAgent(t, at(relay.port), target.port, {
    deps: { audit },
    config: {
      connections: names.map((name) => ({ connection_string: connectionString(listenKey(name), name) })),
      policy: { bundle_file: bundleFile, require_signed: false },
    },
  });
  const gatewayOf = async (name: string, served: readonly string[], dataPort: number) => {
    const { gateway } = await startTestGateway(t, at(dataPort), {
      config: {
        name,
        connections: served.map((one) => ({
          name: one,
          connection_string: connectionString(sendKey(one), one),
          listen: '127.0.0.1:0',
          eager: false,
        })),
      },
    });
    return gateway;
  };
  const gateways = [
    await gatewayOf('gateway-1', names.slice(0, RUNS / 2), relay.port),
    await gatewayOf('gateway-2', names.slice(RUNS / 2), data.port),
  ];
  for (const process of [agent, ...gateways]) await untilReady(process);
  const listens = new Map(
    gateways.flatMap(({ entrances }) => entrances.map((one) => [one.connections[0] ?? '', one.listen])),
  );
  /**
   * A stream over a connection, from the application's socket to the target's. A machine without time for the policy denies
   * one (`policy_overload`): then it is opened again.
   */
  const open = async (name: string): Promise<readonly [Socket, Socket]> => {
    for (let attempt = 1; attempt <= MAX_OPENS; attempt += 1) {
      const app = dial(t, listens.get(name) ?? '');
      const refused = new Promise<undefined>((resolve) => app.once('close', () => resolve(undefined)));
      app.on('error', () => undefined);
      app.write(`${name}\n`);
      const target = await Promise.race([arrivalOf(name), refused]);
      if (target !== undefined) return [app, target];
    }
    throw new Error(`${name} was refused ${MAX_OPENS} times`);
  };
  const arrived = new Map<string, (socket: Socket) => void>();
  const arrivalOf = (name: string): Promise<Socket> => new Promise((resolve) => arrived.set(name, resolve));
  onTarget = (socket) => {
    socket.once('data', (chunk: Buffer) => {
      socket.pause();
      arrived.get(chunk.toString('utf8').trim())?.(socket);
    });
  };
  return { relay, data, audit, gateways, open };
};

test('a revoked key is key_revoked at both ends, 100 times, however slow they and the notices are', async (t) => {
  const { relay, data, audit, gateways, open } = await startAll(t);
  const sip = new Set<Socket>();
  const sipping = setInterval(() => {
    for (const socket of sip) socket.read(SIP_BYTES);
  }, SIP_EVERY_MS);
  t.after(() => clearInterval(sipping));

  // Every round has connections of both gateways.
  const mixed = names.toSorted(
    (left, right) => (numberOf(left) % (RUNS / 2)) - (numberOf(right) % (RUNS / 2)),
  );
  for (let from = 0; from < RUNS; from += ROUND) {
    const clogged: Clogged[] = await Promise.all(
      mixed.slice(from, from + ROUND).map(async (name) => {
        const sockets = await open(name);
        const [app, target] = sockets;
        const ends = Promise.all([clog(app, sip), clog(target, sip)]);
        return { name, sockets, ends };
      }),
    );
    await untilClogged(clogged.flatMap(({ sockets }) => sockets));
    data.stall();
    for (const [index, { name }] of clogged.entries()) {
      relay.control.revoke(index % 4 < 2 ? sendKey(name) : listenKey(name));
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const { name, ends } of clogged) {
      for (const how of await ends) assert.match(how, /^(ECONNRESET|EPIPE)$/, name);
    }
    data.resume();
  }

  const expected = Array<string>(RUNS).fill('key_revoked');
  await eventually(
    'every end is recorded',
    async () => {
      assert.deepEqual(
        audit.of('stream.close').map(({ data: { reason } }) => reason),
        expected,
      );
      assert.deepEqual(
        audit.of('link.closed').map(({ data: { reason } }) => reason),
        expected,
      );
      const shown = await Promise.all(
        gateways.map(async (one) => (await statusOf(one))['connections'] as Shown[]),
      );
      assert.deepEqual(
        shown.flat().map(({ failures }) => failures[0]?.reason),
        expected,
      );
      return true;
    },
    DEADLINE_MS,
  );
  const cut = relay.audit.of('link.closed').map((event) => (event.data as { reason: string }).reason);
  assert.deepEqual(cut, expected);
  await eventually(
    'the agent is pending for none of them',
    () => {
      const last = new Map(relay.control.acknowledged.map(({ id, ack }) => [id, ack.pendingAgents ?? []]));
      return last.size === RUNS && [...last.values()].every((agents) => agents.length === 0)
        ? true
        : undefined;
    },
    DEADLINE_MS,
  );
});
