import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { Connect } from '../../../src/agent/dialler.ts';
import { gatewayConfigSchema, type GatewayProcess } from '../../../src/gateway/index.ts';
import {
  startEnds,
  startTestAgent,
  startTestGateway,
  startTestRelay,
  untilReady,
  type GatewayOptions,
  type AgentOptions,
} from '../../agent/ends-fixture.ts';
import { MemoryAudit } from '../../agent/memory-audit.ts';
import { eventually } from '../../support/eventually.ts';
import { dial, listen, type ListeningServer, readToEnd } from '../../support/sockets.ts';
import { GREETING, METHOD_NONE, readBytes, readHead, replyOf, requestFor } from './client-words.ts';

const DEADLINE = { timeout: 300_000 };
/** More than every window on the way together, so that nothing fits into buffers. */
const LARGE_BYTES = 8 * 1024 * 1024;
/** What is asked for: the fixture's one connection. */
const PORT = 1433;

type Kind = 'socks5' | 'http_connect';

const ENTRANCES = { socks5: [{ listen: '127.0.0.1:0' }], http_connect: [{ listen: '127.0.0.1:0' }] };

/** How each kind of client asks for the fixture's connection, and reads the answer. */
const CLIENTS: Readonly<Record<Kind, { ask: Buffer; opened: (socket: Socket) => Promise<void> }>> = {
  socks5: {
    ask: Buffer.concat([GREETING, requestFor('db', PORT)]),
    opened: async (socket) => {
      const answer = await readBytes(socket, 12);
      assert.equal(answer.toString('hex'), METHOD_NONE + replyOf(0));
    },
  },
  http_connect: {
    ask: Buffer.from(`CONNECT db:${PORT} HTTP/1.1\r\nHost: db\r\n\r\n`),
    opened: async (socket) => {
      assert.match(
        await readHead(socket),
        /^HTTP\/1\.1 200 Connection established\r\nSallyport-Stream: [0-9a-f-]{36}\r\n\r\n$/,
      );
    },
  },
};

/** A client at an entrance; the end of a test resets what is left. */
const client = (t: TestContext, gateway: GatewayProcess, kind: Kind): Socket => {
  const socket = dial(t, addressOf(gateway, kind));
  socket.on('error', () => undefined);
  return socket;
};

/** What comes from now on, of a socket that is paused. */
const restOf = (socket: Socket): ReturnType<typeof readToEnd> => {
  const end = readToEnd(socket);
  socket.resume();
  return end;
};

const addressOf = (gateway: GatewayProcess, kind: Kind): string =>
  gateway.entrances.find((entrance) => entrance.kind === kind)?.listen ?? '';

/** What a client hears that gets no stream: the code of the reply, or status and reason. */
const answerOf = async (t: TestContext, gateway: GatewayProcess, kind: Kind): Promise<string> => {
  const socket = client(t, gateway, kind);
  const end = readToEnd(socket);
  socket.write(Buffer.concat([CLIENTS[kind].ask, Buffer.from('early')]));
  return refusalIn(kind, await end);
};

const refusalIn = (kind: Kind, { bytes, how }: { bytes: Buffer; how: string }): string => {
  assert.equal(how, 'fin', 'the answer comes before the end, and the end is in order');
  if (kind === 'socks5') {
    const hex = bytes.toString('hex');
    assert.equal(hex, METHOD_NONE + replyOf(bytes[3] ?? 0xff));
    return String(bytes[3]);
  }
  const text = bytes.toString();
  assert.match(text, /\r\nSallyport-Stream: [0-9a-f-]{36}\r\n/);
  const status = /^HTTP\/1\.1 (\d+) /.exec(text)?.[1];
  const reason = /\r\nSallyport-Reason: (\w+)\r\n/.exec(text)?.[1];
  return `${status} ${reason}`;
};

interface World {
  readonly gateway: GatewayProcess;
  readonly target: ListeningServer;
  readonly audit: MemoryAudit;
  readonly relay: Awaited<ReturnType<typeof startTestRelay>>;
  readonly agent: { close(): Promise<void> };
}

const startWorld = async (
  t: TestContext,
  options: {
    serve?: (socket: Socket) => void;
    agent?: AgentOptions;
    gateway?: GatewayOptions['config'];
  } = {},
): Promise<World> => {
  const audit = new MemoryAudit();
  const { gateway, target, relay, started } = await startEnds(t, options.serve ?? (() => undefined), {
    agent: { ...options.agent, deps: { audit, ...options.agent?.deps } },
    gateway: { config: { ...ENTRANCES, ...options.gateway } },
  });
  return { gateway, target, audit, relay, agent: started.agent };
};

/** A connect() that neither succeeds nor fails. */
const hangingConnect: Connect = () => new Socket();
const refusedConnect: Connect = () => {
  const socket = new Socket();
  setImmediate(() => socket.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })));
  return socket;
};

for (const kind of ['socks5', 'http_connect'] as const) {
  const { ask, opened } = CLIENTS[kind];

  test(
    `${kind}: the whole request with megabytes behind it, byte for byte, and half-close both ways`,
    DEADLINE,
    async (t) => {
      const received: Buffer[] = [];
      const { gateway, target } = await startWorld(t, {
        serve: (socket) => {
          socket.on('data', (chunk) => received.push(chunk));
          socket.on('end', () => socket.end(Buffer.alloc(LARGE_BYTES, 'd')));
        },
      });
      const up = Buffer.alloc(LARGE_BYTES);
      for (let at = 0; at < up.length; at += 4) up.writeUInt32BE(at, at);
      const socket = client(t, gateway, kind);
      socket.end(Buffer.concat([ask, up]));
      await opened(socket);
      const { bytes, how } = await restOf(socket);
      assert.equal(how, 'fin');
      assert.equal(bytes.length, LARGE_BYTES);
      assert.ok(Buffer.concat(received).equals(up));
      assert.equal(target.sockets.length, 1);
    },
  );

  test(`${kind}: the target speaks first, and ends first`, DEADLINE, async (t) => {
    const { gateway, target } = await startWorld(t, { serve: (socket) => socket.end('welcome') });
    const socket = client(t, gateway, kind);
    socket.write(ask);
    await opened(socket);
    assert.deepEqual(await restOf(socket), { bytes: Buffer.from('welcome'), how: 'fin' });
    const far = target.sockets[0];
    assert.ok(far);
    const atTarget = readToEnd(far);
    socket.end('and goodbye');
    assert.deepEqual(await atTarget, { bytes: Buffer.from('and goodbye'), how: 'fin' });
  });

  test(`${kind}: a reset by either end reaches the other as a reset`, DEADLINE, async (t) => {
    const { gateway, target, audit } = await startWorld(t);
    const open = async (): Promise<{ app: Socket; far: Socket }> => {
      const before = target.sockets.length;
      const app = client(t, gateway, kind);
      app.write(ask);
      await opened(app);
      app.resume();
      app.write('x');
      const far = target.sockets[before];
      assert.ok(far, 'the success was told after the target was connected');
      await once(far, 'data');
      return { app, far };
    };
    const first = await open();
    const atClient = readToEnd(first.app);
    first.far.resetAndDestroy();
    assert.equal((await atClient).how, 'ECONNRESET');
    const second = await open();
    const atTarget = readToEnd(second.far);
    second.app.resetAndDestroy();
    assert.equal((await atTarget).how, 'ECONNRESET');
    await audit.until('stream.close', ({ data }) => data.reason === 'target_reset');
    await audit.until('stream.close', ({ data }) => data.reason === 'client_reset');
  });

  test(`${kind}: the evidence names the entrance`, DEADLINE, async (t) => {
    const { gateway, audit } = await startWorld(t);
    const app = client(t, gateway, kind);
    app.write(ask);
    await opened(app);
    const { data } = await audit.until('stream.decision');
    const { source } = JSON.parse(data.input ?? '') as { source: { claimed: Record<string, unknown> } };
    assert.deepEqual(source.claimed, {
      address: '127.0.0.1',
      port: app.localPort,
      label: kind,
    });
  });

  test(`${kind}: nothing of the target comes before the success is told`, DEADLINE, async (t) => {
    let connects: (() => void) | undefined;
    const { gateway, target } = await startWorld(t, {
      agent: {
        deps: {
          connect: (address, port) => {
            const socket = new Socket({ allowHalfOpen: true });
            connects = () => socket.connect({ host: address, port });
            return socket;
          },
        },
      },
    });
    const app = client(t, gateway, kind);
    const seen: Buffer[] = [];
    app.on('data', (chunk) => seen.push(chunk));
    app.write(ask);
    await eventually('the agent dials', () => connects);
    const before = Buffer.concat(seen).toString('hex');
    assert.ok(before === '' || before === METHOD_NONE, 'no success before the target is connected');
    assert.equal(target.sockets.length, 0);
    connects?.();
    const success = kind === 'socks5' ? replyOf(0) : Buffer.from('HTTP/1.1 200').toString('hex');
    await eventually('the success', () => Buffer.concat(seen).toString('hex').includes(success) || undefined);
  });

  test(`${kind}: what a client hears of a stream that it does not get`, DEADLINE, async (t) => {
    await t.test('policy denies', async (sub) => {
      const { gateway, audit } = await startWorld(sub, { agent: { bundle: { forbidden: ['db'] } } });
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '2' : '403 policy_denied');
      assert.equal(audit.of('stream.close').length, 0);
    });
    await t.test('nothing listens at the target', async (sub) => {
      const { gateway } = await startWorld(sub, { agent: { deps: { connect: refusedConnect } } });
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '5' : '502 target_unreachable');
    });
    await t.test('there is no way to the target', async (sub) => {
      const connect: Connect = () => {
        const socket = new Socket();
        setImmediate(() => socket.destroy(Object.assign(new Error('none'), { code: 'EHOSTUNREACH' })));
        return socket;
      };
      const { gateway } = await startWorld(sub, { agent: { deps: { connect } } });
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '4' : '502 target_unreachable');
    });
    await t.test('the target does not answer in time', async (sub) => {
      const { gateway } = await startWorld(sub, {
        agent: { deps: { connect: hangingConnect } },
        gateway: { limits: gatewayConfigSchema.shape.limits.parse({ open_timeout_seconds: 0.2 }) },
      });
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '4' : '504 open_timeout');
    });
    await t.test('no agent publishes the connection', async (sub) => {
      const relay = await startTestRelay(sub, 5_432);
      const { gateway } = await startTestGateway(sub, relay, { config: ENTRANCES });
      const answer = await eventually('an answer of the relay', async () => {
        const heard = await answerOf(sub, gateway, kind);
        return heard.startsWith('504') ? undefined : heard;
      });
      assert.equal(answer, kind === 'socks5' ? '3' : '503 no_agent');
    });
    await t.test('a wrong key', async (sub) => {
      const relay = await startTestRelay(sub, 5_432);
      const { gateway } = await startTestGateway(sub, relay, { key: 'k_wrong', config: ENTRANCES });
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '2' : '403 not_authorized');
    });
    await t.test('more streams than the gateway may hold', async (sub) => {
      const { gateway } = await startWorld(sub, {
        gateway: { limits: gatewayConfigSchema.shape.limits.parse({ streams: 1 }) },
      });
      const held = client(sub, gateway, kind);
      held.write(ask);
      await opened(held);
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '1' : '503 overloaded');
    });
  });

  test(`${kind}: what a client hears whose stream ends while it is being opened`, DEADLINE, async (t) => {
    const asking = async (sub: TestContext): Promise<World & { answer: Promise<string> }> => {
      let isDialled = false;
      const world = await startWorld(sub, {
        agent: {
          deps: {
            connect: () => {
              isDialled = true;
              return new Socket();
            },
          },
        },
      });
      const answer = answerOf(sub, world.gateway, kind);
      await eventually('the agent dials', () => isDialled || undefined);
      return { ...world, answer };
    };
    await t.test('its key is revoked', async (sub) => {
      const { relay, answer, gateway } = await asking(sub);
      relay.control.revoke('k_send');
      assert.equal(await answer, kind === 'socks5' ? '2' : '403 key_revoked');
      assert.equal(await answerOf(sub, gateway, kind), kind === 'socks5' ? '2' : '403 key_revoked');
    });
    await t.test('the relay goes away', async (sub) => {
      const { relay, answer } = await asking(sub);
      await relay.node.close();
      assert.match(await answer, kind === 'socks5' ? /^3$/ : /^503 (relay_shutdown|link_lost)$/);
    });
    await t.test('the gateway stops', async (sub) => {
      const { gateway, answer } = await asking(sub);
      await gateway.close();
      assert.equal(await answer, kind === 'socks5' ? '1' : '503 gateway_shutdown');
    });
    await t.test('the client goes away', async (sub) => {
      let dialled: Socket | undefined;
      const { gateway, audit } = await startWorld(sub, {
        agent: { deps: { connect: () => (dialled = new Socket()) } },
      });
      const socket = client(sub, gateway, kind);
      socket.write(ask);
      await eventually('the agent dials', () => dialled);
      socket.resetAndDestroy();
      const { data } = await audit.until('stream.close');
      assert.equal(data.reason, 'client_reset');
      await eventually('the dial is given up', () => dialled?.destroyed || undefined);
    });
  });

  test(
    `${kind}: a movable refusal is tried through the other agent, early data kept`,
    DEADLINE,
    async (t) => {
      const target = await listen(t, (socket) => socket.on('data', (chunk) => socket.write(chunk)));
      const relay = await startTestRelay(t, target.port);
      let refused = 0;
      const broken: Connect = (address, port) => {
        refused += 1;
        return refusedConnect(address, port);
      };
      const first = await startTestAgent(t, relay, target.port, {
        name: 'agent-1',
        deps: { audit: new MemoryAudit(), connect: broken },
      });
      await untilReady(first.agent);
      const { gateway } = await startTestGateway(t, relay, { config: ENTRANCES });
      await untilReady(gateway);
      const second = await startTestAgent(t, relay, target.port, {
        name: 'agent-2',
        deps: { audit: new MemoryAudit() },
      });
      await untilReady(second.agent);
      const app = client(t, gateway, kind);
      app.write(Buffer.concat([ask, Buffer.from('kept')]));
      await opened(app);
      assert.equal((await readBytes(app, 4)).toString(), 'kept');
      assert.equal(refused, 1);
    },
  );
}

test('status and metrics show every entrance', DEADLINE, async (t) => {
  const { gateway } = await startWorld(t, {
    gateway: {
      socks5: [
        {
          listen: '127.0.0.1:0',
          clients: ['127.0.0.1'],
          users: [{ name: 'app', password: 'a password of the tests' }],
        },
      ],
    },
  });
  const text = await (await fetch(`${gateway.statusUrl}/status`)).text();
  const status = JSON.parse(text) as { entrances: unknown[] };
  const everybody = ['127.0.0.0/8', '::1'];
  assert.deepEqual(status.entrances, [
    {
      kind: 'listener',
      listen: gateway.entrances[0]?.listen,
      connections: ['db'],
      names: null,
      clients: everybody,
      login: false,
      handshakes: 0,
    },
    {
      kind: 'socks5',
      listen: addressOf(gateway, 'socks5'),
      connections: ['db'],
      names: null,
      clients: ['127.0.0.1'],
      login: true,
      handshakes: 0,
    },
    {
      kind: 'http_connect',
      listen: addressOf(gateway, 'http_connect'),
      connections: ['db'],
      names: null,
      clients: everybody,
      login: false,
      handshakes: 0,
    },
  ]);
  assert.doesNotMatch(text, /a password of the tests/);
  const refused = dial(t, addressOf(gateway, 'http_connect'));
  const end = readToEnd(refused);
  refused.write('CONNECT nobody:1 HTTP/1.1\r\nHost: x\r\n\r\n');
  await end;
  const metrics = await (await fetch(`${gateway.statusUrl}/metrics`)).text();
  assert.match(
    metrics,
    /^sallyport_entrance_refused_total\{entrance="http_connect",cause="unlisted"[^}]*\} 1$/m,
  );
  assert.match(metrics, /^sallyport_entrance_handshakes\{entrance="socks5"[^}]*\} 0$/m);
});
