import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { askToActivate } from '../../src/agent/activate-requests.ts';
import { ALWAYS_CLOSED } from '../../src/agent/close-review.ts';
import type { AuditEventInput } from '../../src/audit/index.ts';
import { openDataLink } from '../../src/protocol/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { managedPlace } from '../support/managed-place.ts';
import { giving, scriptedServer } from '../support/scripted-server.ts';
import { dial, listen as listenFor, readToEnd } from '../support/sockets.ts';
import type { Relay } from '../relay/relay-fixture.ts';
import {
  CONNECTION,
  startEnds,
  startTestAgent,
  startTestGateway,
  startTestRelay,
  statusOf,
  untilReady,
  writeBundle,
} from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const DEADLINE = { timeout: 60_000 };

const echoTo = (socket: Socket): void => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
};

const openStream = async (t: TestContext, listen: string): Promise<Socket> => {
  const socket = dial(t, listen);
  // The test's own end resets what is left.
  socket.on('error', () => undefined);
  socket.write('x');
  await once(socket, 'data');
  return socket;
};

const echoes = async (socket: Socket): Promise<void> => {
  socket.write('y');
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  assert.equal(chunk.toString(), 'y');
};

const agentsAt = ({ node }: Relay): number => node.parties().agents;

const managedOf = async (agent: { readonly statusUrl: string }): Promise<Record<string, unknown>> =>
  (await statusOf(agent))['managed'] as Record<string, unknown>;

const notReady = (agent: { readonly statusUrl: string }): Promise<string> =>
  eventually('not ready', async () => {
    const response = await fetch(`${agent.statusUrl}/readyz`);
    return response.status === 503 ? await response.text() : undefined;
  });

const allowed = ({ data }: { readonly data: { readonly allow: boolean } }): boolean => data.allow;

/** An agent under managed settings with everything around it. */
const startManaged = async (t: TestContext, text?: string, audit = new MemoryAudit()) => {
  const place = managedPlace(t);
  if (text !== undefined) place.put(text);
  const ends = await startEnds(t, echoTo, {
    agent: { deps: { audit, managedLocation: place.location } },
  });
  const { agent, config } = ends.started;
  /** As an administrator does: the file, then SIGHUP. */
  const put = async (settings: string, mode?: number): Promise<void> => {
    place.put(settings, mode);
    await agent.reload(config);
  };
  return { ...ends, agent, config, place, audit, put };
};

test('without managed settings the status says that nothing is restricted', DEADLINE, async (t) => {
  const { agent, listen, place } = await startManaged(t);
  await openStream(t, listen);
  assert.deepEqual(await managedOf(agent), {
    path: place.location.path,
    state: 'absent',
    note: 'there are no managed settings: nothing is restricted by them',
    since: null,
    settings: null,
    bars: null,
    awaiting_restart: [],
  });
});

test('every decision carries the digest of the settings it was made under', DEADLINE, async (t) => {
  const text = 'designated: [127.0.0.0/8:1, localhost:2]\nconnections: enabled\n';
  const { audit, put, listen, target } = await startManaged(t);
  await put(`designated: ['127.0.0.1:${target.port}']\n`);
  const first = await audit.until('managed.changed');
  const { managed_sha256: sha256 } = first.data;
  assert.match(sha256 ?? '', /^[0-9a-f]{64}$/);
  assert.deepEqual(first.data.before, { state: 'absent' });
  assert.equal((first.data.after as { sha256: string }).sha256, sha256);
  await openStream(t, listen);
  const decision = await audit.until('stream.decision', allowed);
  assert.equal(decision.data.managed_sha256, sha256);
  const input = JSON.parse(decision.data.input ?? '') as { managed: unknown };
  assert.deepEqual(input.managed, { sha256, require_proof: false });

  await put(text);
  const second = await audit.until('managed.changed', ({ data }) => data.managed_sha256 !== sha256);
  assert.equal((second.data.before as { sha256: string }).sha256, sha256);
});

test('a bundle that allows the target cannot widen what is designated', DEADLINE, async (t) => {
  const place = managedPlace(t);
  place.put('designated: [10.0.0.0/8:5432]\n');
  const audit = new MemoryAudit();
  const target = await listenFor(t, echoTo);
  const relay = await startTestRelay(t, target.port);
  const { agent, config } = await startTestAgent(t, relay, target.port, {
    deps: { audit, managedLocation: place.location },
  });
  const denied = await audit.until('publish.decision');
  assert.equal(denied.data.allow, false);
  assert.equal(denied.data.decided_by, 'managed');
  assert.equal(denied.data.reason, 'managed_denied');
  assert.deepEqual(denied.data.candidates, [
    { address: '127.0.0.1', verdict: 'managed', reasons: ['managed_denied'] },
  ]);
  assert.match(await notReady(agent), /connection db is not offered: managed_denied/);
  place.put(`designated: [10.0.0.0/8:5432, '127.0.0.1:${target.port}']\n`);
  await agent.reload(config);
  await untilReady(agent);
});

test('a change resets the live streams that it does not allow, and no others', DEADLINE, async (t) => {
  const { audit, put, listen, target, agent, gateway, relay } = await startManaged(t);
  const socket = await openStream(t, listen);
  await put(`designated: ['127.0.0.1:${target.port}']\nrelays: [${relay.config.host}]\n`);
  await echoes(socket);
  const end = readToEnd(socket);
  await put('designated: [10.0.0.0/8:5432]\n');
  assert.equal((await end).how, 'ECONNRESET');
  const close = await audit.until('stream.close');
  assert.equal(close.data.reason, 'managed_denied');
  const cut = await audit.until('stream.decision', ({ data }) => !data.allow);
  assert.equal(cut.data.decided_by, 'managed');
  assert.equal(cut.subject.stream_id, close.subject.stream_id);
  const changed = audit.of('managed.changed').at(-1);
  assert.equal(cut.data.managed_sha256, changed?.data.managed_sha256);
  const order = audit.events.map(({ type }) => type);
  assert.ok(order.lastIndexOf('managed.changed') < order.lastIndexOf('stream.close'));
  const unpublish = await audit.until('unpublish');
  assert.equal(unpublish.data.reason, 'managed_denied');
  assert.match(await notReady(agent), /managed_denied/);
  // What is allowed again is published again.
  await put('connections: enabled\n');
  await untilReady(agent);
  await untilReady(gateway);
  await openStream(t, listen);
});

test('disabled connections end streams, links and logins; enabled ones come back', DEADLINE, async (t) => {
  const { audit, put, listen, agent, gateway, relay } = await startManaged(t, 'connections: enabled\n');
  const end = readToEnd(await openStream(t, listen));
  await put('connections: disabled\n');
  assert.equal((await end).how, 'ECONNRESET');
  assert.equal((await audit.until('stream.close')).data.reason, 'managed_denied');
  assert.equal((await audit.until('link.closed')).data.reason, 'managed_denied');
  const status = await statusOf(agent);
  assert.equal((status['logins'] as { code: string }[])[0]?.code, 'managed_denied');
  assert.deepEqual(status['links'], []);
  assert.match(await notReady(agent), /managed settings refuse everything: connections_disabled/);
  await eventually('the relay has no agent', () => (agentsAt(relay) === 0 ? true : undefined));
  await put('connections: enabled\n');
  await untilReady(agent);
  await untilReady(gateway);
  await openStream(t, listen);
});

test('a relay that is not listed is neither dialled nor kept', DEADLINE, async (t) => {
  const { audit, put, listen, agent, gateway, relay } = await startManaged(t);
  const end = readToEnd(await openStream(t, listen));
  await put('relays: [other.example]\n');
  assert.equal((await end).how, 'ECONNRESET');
  assert.equal((await audit.until('stream.close')).data.reason, 'managed_denied');
  assert.match(await notReady(agent), /managed settings do not allow this relay/);
  await eventually('the relay has no agent', () => (agentsAt(relay) === 0 ? true : undefined));
  await put(`relays: [${relay.config.host}]\n`);
  await untilReady(agent);
  await untilReady(gateway);
  await openStream(t, listen);
});

test('a file that is refused changes nothing, is recorded, and shows in the status', DEADLINE, async (t) => {
  const { audit, put, listen, agent, place } = await startManaged(t, 'connections: enabled\n');
  const socket = await openStream(t, listen);
  await put('connections: disabled\n', 0o664);
  const refused = await audit.until('managed.refused');
  assert.match(refused.data.reason, /managed\.yaml is writable by its group/);
  assert.equal(refused.data.managed_sha256, audit.of('managed.changed')[0]?.data.managed_sha256);
  await echoes(socket);
  const { state, refused: shown } = await managedOf(agent);
  assert.equal(state, 'in_force');
  assert.equal((shown as { code: string }).code, 'ERR_POLICY_MANAGED');
  await put('conections: disabled\n');
  const typo = await audit.until('managed.refused', ({ data }) => data.reason.includes('did you mean'));
  assert.ok(typo.data.reason.startsWith(place.location.path));
  await echoes(socket);
  const end = readToEnd(socket);
  await put('connections: disabled\n');
  assert.equal((await end).how, 'ECONNRESET');
});

test('a file that is refused at the start lets nothing be dialled', DEADLINE, async (t) => {
  const place = managedPlace(t);
  place.put('connections: enabled\n', 0o666);
  const audit = new MemoryAudit();
  const target = await listenFor(t, echoTo);
  const relay = await startTestRelay(t, target.port);
  const { agent, config } = await startTestAgent(t, relay, target.port, {
    deps: { audit, managedLocation: place.location },
  });
  assert.match((await audit.until('managed.refused')).data.reason, /writable by/);
  assert.match(await notReady(agent), /settings_refused: .*managed\.yaml is writable/);
  assert.equal(agentsAt(relay), 0);
  place.put('connections: enabled\n');
  await agent.reload(config);
  await untilReady(agent);
});

/** Changes the settings between an allow and the tick that would dial by it. */
class ChangingAudit extends MemoryAudit {
  change: (() => Promise<void>) | undefined;

  override async record(event: AuditEventInput): Promise<{ event_id: string; seq: number }> {
    const recorded = await super.record(event);
    const { change } = this;
    if (event.type === 'stream.decision' && event.data.allow && change !== undefined) {
      this.change = undefined;
      await change();
    }
    return recorded;
  }
}

test(
  'settings that change while an allow is written to disk hold for the stream it is of',
  DEADLINE,
  async (t) => {
    const audit = new ChangingAudit();
    const { put, listen, target } = await startManaged(t, undefined, audit);
    audit.change = async () => {
      void put('designated: [10.0.0.0/8:5432]\n');
      await audit.until('managed.changed');
    };
    assert.equal((await readToEnd(dial(t, listen))).how, 'ECONNRESET');
    assert.equal(target.sockets.length, 0);
    const denied = await audit.until('stream.decision', ({ data }) => !data.allow);
    assert.equal(denied.data.decided_by, 'managed');
    assert.equal((await audit.until('stream.close')).data.reason, 'managed_denied');
  },
);

test('a data link that comes up while its relay is forbidden is not kept', DEADLINE, async (t) => {
  const place = managedPlace(t);
  const audit = new MemoryAudit();
  const target = await listenFor(t, echoTo);
  const relay = await startTestRelay(t, target.port);
  let change = (): void => undefined;
  const { agent, config } = await startTestAgent(t, relay, target.port, {
    deps: {
      audit,
      managedLocation: place.location,
      openLink: async (options) => {
        const peer = await openDataLink(options);
        change();
        await audit.until('managed.changed');
        return peer;
      },
    },
  });
  await untilReady(agent);
  change = () => {
    place.put('relays: [other.example]\n');
    void agent.reload(config);
  };
  await startTestGateway(t, relay);
  const refused = await audit.until('link.refused');
  assert.equal(refused.data.reason, 'managed_denied');
  assert.deepEqual(audit.of('link.opened'), []);
});

test('a required bundle replaces that of agent.yaml, and its grants', DEADLINE, async (t) => {
  const first = await startManaged(t);
  const { bundleFile } = first.started;
  // Another agent, whose own bundle is nowhere: it decides by the required one.
  const place = managedPlace(t);
  place.put(`bundle: {file: ${bundleFile}}\nminimum_sequence: 1\n`);
  const audit = new MemoryAudit();
  const own = {
    bundle_file: '/nowhere/bundle.tar.gz',
    data_file: '/nowhere/grants.yaml',
    require_signed: false,
  };
  const { agent, config } = await startTestAgent(t, first.relay, first.target.port, {
    name: 'agent-2',
    deps: { audit, managedLocation: place.location },
    config: { policy: own },
  });
  await untilReady(agent);
  // One that is required later and not there ends everything until it is.
  const other = join(place.directory, 'other.tar.gz');
  place.put(`bundle: {file: ${other}}\n`);
  await agent.reload(config);
  assert.match(await notReady(agent), /no policy bundle is active: ENOENT/);
  const denied = await audit.until('publish.decision', ({ data }) => !data.allow);
  assert.deepEqual([denied.data.decided_by, denied.data.reasons?.[0]?.code], ['engine', 'bundle_untrusted']);
  writeBundle(other, first.target.port);
  await agent.reload(config);
  await untilReady(agent);
});

test(
  'a bundle that is required while streams are live: those it allows lose nothing',
  DEADLINE,
  async (t) => {
    const { audit, put, listen, target, place } = await startManaged(t);
    const socket = await openStream(t, listen);
    const file = join(place.directory, 'required.tar.gz');
    writeBundle(file, target.port, { sequence: 1 });
    await put(`bundle: {file: ${file}}\n`);
    const activated = await audit.until('bundle.activated', ({ data }) => data.source === file);
    assert.equal(activated.data.reason, 'activated');
    await echoes(socket);
    await echoes(await openStream(t, listen));
    assert.deepEqual(audit.of('unpublish'), [], 'the connection stays published');
    const end = readToEnd(socket);
    writeBundle(file, target.port, { sequence: 2, forbidden: [CONNECTION] });
    assert.equal((await end).how, 'ECONNRESET', 'and the file is watched from then on');
    assert.equal((await audit.until('stream.close')).data.reason, 'policy_changed');
  },
);

test(
  'a required bundle that would close many streams is held: they go on, new ones are refused',
  DEADLINE,
  async (t) => {
    const { audit, put, listen, target, place, agent, config } = await startManaged(t);
    const sockets = await Promise.all(Array.from({ length: ALWAYS_CLOSED + 1 }, () => openStream(t, listen)));
    const file = join(place.directory, 'required.tar.gz');
    writeBundle(file, target.port, { sequence: 1, forbidden: [CONNECTION] });
    await put(`bundle: {file: ${file}}\n`);
    const held = await audit.until('bundle.held');
    assert.deepEqual([held.data.would_close, held.data.source], [sockets.length, file]);
    await Promise.all(sockets.map(echoes));
    const dialled = target.sockets.length;
    assert.notEqual((await readToEnd(dial(t, listen))).how, 'fin');
    assert.equal(
      target.sockets.length,
      dialled,
      'nothing is dialled by a bundle that is not the required one',
    );
    const denied = await audit.until('stream.decision', ({ data }) => !data.allow);
    assert.deepEqual(denied.data.reasons, [{ code: 'managed_denied', args: { detail: 'bundle_source' } }]);
    assert.match(await notReady(agent), /bundle_source: .*is held/);
    const { held: shown } = (await statusOf(agent))['policy'] as { held: { id: string } };
    const ends = sockets.map((socket) => readToEnd(socket));
    askToActivate(config.state_dir, shown.id, 'SEC-1', systemClock);
    for (const { how } of await Promise.all(ends)) assert.equal(how, 'ECONNRESET');
    assert.equal((await audit.until('stream.close')).data.reason, 'policy_changed');
  },
);

test(
  'the bundle server of agent.yaml is asked no more under a required bundle, and again without it',
  DEADLINE,
  async (t) => {
    const server = await scriptedServer(t);
    const place = managedPlace(t);
    const audit = new MemoryAudit();
    const target = await listenFor(t, echoTo);
    const relay = await startTestRelay(t, target.port);
    const file = join(place.directory, 'required.tar.gz');
    writeBundle(file, target.port, { sequence: 2 });
    const bytes = readFileSync(file);
    server.answer(giving(bytes, '"one"'));
    const policy = {
      bundle_url: server.url,
      bundle_service: { min_delay_seconds: 0.02, max_delay_seconds: 0.04 },
      require_signed: false,
    };
    const { agent, config } = await startTestAgent(t, relay, target.port, {
      deps: { audit, managedLocation: place.location },
      config: { policy },
    });
    await untilReady(agent);
    const sourceOf = async (): Promise<unknown> =>
      ((await statusOf(agent))['policy'] as { source: { kind: string } }).source.kind;
    place.put(`bundle: {file: ${file}}\n`);
    await agent.reload(config);
    await audit.until('bundle.activated', ({ data }) => data.source === file);
    assert.equal(await sourceOf(), 'file');
    const asked = server.requests.length;
    server.answer((_request, response) => response.writeHead(503).end());
    await agent.reload(config);
    assert.equal(server.requests.length, asked);
    server.answer(giving(bytes, '"one"'));
    place.remove();
    await agent.reload(config);
    await audit.until(
      'bundle.activated',
      ({ data }) => data.source === server.url && data.bundle?.sequence === 2,
    );
    await eventually('the server is asked', () => (server.requests.length > asked ? true : undefined));
    assert.equal(await sourceOf(), 'url');
    await untilReady(agent);
  },
);

test('a lower sequence than the minimum decides nothing, live streams included', DEADLINE, async (t) => {
  const { audit, put, listen } = await startManaged(t);
  const end = readToEnd(await openStream(t, listen));
  await put('minimum_sequence: 1000000\n');
  assert.equal((await end).how, 'ECONNRESET');
  const cut = await audit.until('stream.decision', ({ data }) => !data.allow);
  assert.deepEqual(cut.data.reasons, [{ code: 'managed_denied', args: { detail: 'minimum_sequence' } }]);
});

test('required proof cuts streams of keys that only the relay vouches for', DEADLINE, async (t) => {
  const { audit, put, listen } = await startManaged(t);
  const end = readToEnd(await openStream(t, listen));
  await put('require_proof: true\n');
  assert.equal((await end).how, 'ECONNRESET');
  assert.equal((await audit.until('stream.close')).data.reason, 'proof_required');
  const cut = await audit.until('stream.decision', ({ data }) => !data.allow);
  assert.equal(cut.data.decided_by, 'managed');
});

test(
  'the file is watched: a change takes effect under live streams without a signal',
  DEADLINE,
  async (t) => {
    const { listen, place, agent, gateway } = await startManaged(t);
    const end = readToEnd(await openStream(t, listen));
    place.put('connections: disabled\n');
    assert.equal((await end).how, 'ECONNRESET');
    place.remove();
    await untilReady(agent);
    await untilReady(gateway);
    await openStream(t, listen);
  },
);
