import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { HANDSHAKE_MS } from '../../../src/gateway/entrance/conversations.ts';
import { DEFAULT_WHEEL_TICK_MS } from '../../../src/runtime/index.ts';
import { eventually } from '../../support/eventually.ts';
import { dial, readToEnd } from '../../support/sockets.ts';
import { GREETING, METHOD_NONE, readBytes, requestFor } from './client-words.ts';
import { type EntranceRig, startEntrance } from './entrance-rig.ts';

const DEADLINE = { timeout: 60_000 };
const KINDS = ['socks5', 'http_connect'] as const;
const WHOLE = {
  socks5: Buffer.concat([GREETING, requestFor('shop', 80)]),
  http_connect: Buffer.from('CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n'),
} as const;

const portOf = ({ listen }: EntranceRig): string => listen.slice(listen.lastIndexOf(':') + 1);
const hasIpv6 = Object.values(networkInterfaces()).some((list) =>
  list?.some(({ address }) => address === '::1'),
);

for (const kind of KINDS) {
  test(
    `${kind}: a client that is not listed is reset at once, counted, and logged a few times`,
    DEADLINE,
    async (t) => {
      const rig = await startEntrance(t, kind, { settings: { clients: ['10.0.0.0/8', '127.0.0.2'] } });
      for (let count = 1; count <= 10; count += 1) {
        const end = await readToEnd(dial(t, rig.listen));
        assert.deepEqual(end, { bytes: Buffer.alloc(0), how: 'ECONNRESET' });
      }
      assert.deepEqual(await rig.refused(), { client_address: 10 });
      assert.equal(rig.lines.length, 3);
      assert.deepEqual(rig.lines[0], {
        entrance: kind,
        listen: rig.listen,
        client: '127.0.0.1',
        cause: 'client_address',
        detail: undefined,
      });
      assert.equal(rig.entrance.handshakes, 0);
      assert.equal(rig.accepted.length, 0);
    },
  );

  test(`${kind}: a dual-stack listener knows IPv4 clients by their IPv4 address`, {
    ...DEADLINE,
    skip: hasIpv6 ? false : 'this machine has no IPv6 loopback',
  }, async (t) => {
    const rig = await startEntrance(t, kind, { settings: { listen: '[::]:0', clients: ['127.0.0.0/8'] } });
    const listed = dial(t, `127.0.0.1:${portOf(rig)}`);
    listed.write(WHOLE[kind]);
    assert.equal((await rig.next()).connection, 'shop');
    assert.equal((await readToEnd(dial(t, `::1:${portOf(rig)}`))).how, 'ECONNRESET');
    assert.deepEqual(await rig.refused(), { client_address: 1 });
    assert.equal(rig.lines[0]?.client, '::1');
  });

  test(`${kind}: who does not say what it wants in time is let go`, DEADLINE, async (t) => {
    const rig = await startEntrance(t, kind);
    const sockets = [0, 1, WHOLE[kind].length - 1].map((length) => {
      const socket = dial(t, rig.listen);
      socket.write(WHOLE[kind].subarray(0, length));
      return { socket, end: readToEnd(socket) };
    });
    await eventually('all are counted', () => rig.entrance.handshakes === sockets.length || undefined);
    rig.clock.advance(HANDSHAKE_MS - 1);
    assert.equal(rig.entrance.handshakes, sockets.length);
    rig.clock.advance(1 + DEFAULT_WHEEL_TICK_MS);
    assert.equal(rig.entrance.handshakes, 0);
    for (const { end } of sockets) {
      const { bytes, how } = await end;
      assert.equal(how, kind === 'socks5' ? 'ECONNRESET' : 'fin');
      if (kind === 'http_connect')
        assert.match(bytes.toString(), /^HTTP\/1\.1 408 [^]*\r\nSallyport-Reason: too_slow\r\n/);
    }
    assert.deepEqual(await rig.refused(), { too_slow: 3 });
    assert.equal(rig.accepted.length, 0);
  });

  test(`${kind}: a request that was made is no longer timed`, DEADLINE, async (t) => {
    const rig = await startEntrance(t, kind);
    const socket = dial(t, rig.listen);
    socket.write(WHOLE[kind]);
    const { application } = await rig.next();
    rig.clock.advance(10 * HANDSHAKE_MS);
    assert.equal(application.socket.destroyed, false);
    application.accepted('an-id');
    const greeted = kind === 'socks5' ? METHOD_NONE : Buffer.from('HT').toString('hex');
    assert.equal((await readBytes(socket, 2)).toString('hex'), greeted);
  });

  test(
    `${kind}: more than may are reset, of one client and of all; one that leaves makes room`,
    DEADLINE,
    async (t) => {
      for (const limits of [{ handshakes: 2 }, { handshakesPerClient: 2 }]) {
        const rig = await startEntrance(t, kind, { limits });
        const waiting = [dial(t, rig.listen), dial(t, rig.listen)];
        await eventually('two wait', () => rig.entrance.handshakes === 2 || undefined);
        assert.equal((await readToEnd(dial(t, rig.listen))).how, 'ECONNRESET');
        assert.deepEqual(await rig.refused(), { overloaded: 1 });
        waiting[0]?.destroy();
        await eventually('one has gone', () => rig.entrance.handshakes === 1 || undefined);
        waiting[1]?.write(WHOLE[kind]);
        await rig.next();
        assert.equal(rig.entrance.handshakes, 0, 'who has asked is not counted');
        dial(t, rig.listen).write(WHOLE[kind]);
        await rig.next();
        assert.deepEqual(await rig.refused(), { overloaded: 1 });
      }
    },
  );

  test(`${kind}: one client's crowd leaves room for another client`, DEADLINE, async (t) => {
    const rig = await startEntrance(t, kind, {
      settings: { listen: '0.0.0.0:0', clients: ['127.0.0.0/8'] },
      limits: { handshakesPerClient: 1 },
    });
    dial(t, `127.0.0.1:${portOf(rig)}`);
    await eventually('it waits', () => rig.entrance.handshakes === 1 || undefined);
    const other = dial(t, `127.0.0.1:${portOf(rig)}`);
    assert.equal((await readToEnd(other)).how, 'ECONNRESET');
    const neighbour = connect({ host: '127.0.0.1', port: Number(portOf(rig)), localAddress: '127.0.0.9' });
    t.after(() => neighbour.destroy());
    neighbour.write(WHOLE[kind]);
    await rig.next();
  });

  test(`${kind}: a client that goes away before it asked leaves nothing behind`, DEADLINE, async (t) => {
    const rig = await startEntrance(t, kind);
    for (const leave of ['end', 'resetAndDestroy'] as const) {
      const socket = dial(t, rig.listen);
      socket.write(WHOLE[kind].subarray(0, 3));
      await eventually('it is there', () => rig.entrance.handshakes === 1 || undefined);
      const end = readToEnd(socket);
      socket[leave]();
      await eventually('it is gone', () => rig.entrance.handshakes === 0 || undefined);
      if (leave === 'end') await end;
    }
    if (kind === 'socks5') assert.equal(rig.clock.pendingCount, 0, 'no timer is left');
    assert.equal(rig.accepted.length, 0);
  });

  test(`${kind}: closing takes no more, and destroys who has no stream`, DEADLINE, async (t) => {
    const rig = await startEntrance(t, kind);
    const waiting = dial(t, rig.listen);
    await eventually('it waits', () => rig.entrance.handshakes === 1 || undefined);
    const asked = dial(t, rig.listen);
    asked.write(WHOLE[kind]);
    const { application } = await rig.next();
    rig.entrance.close();
    const late = dial(t, rig.listen);
    assert.equal((await readToEnd(late)).how, 'ECONNREFUSED');
    rig.entrance.destroy();
    await readToEnd(waiting);
    assert.equal(application.socket.destroyed, false, "whose stream is being opened is the stream's");
    const closed = once(asked, 'close');
    asked.resume();
    asked.end();
    application.socket.destroy();
    await closed;
  });
}
