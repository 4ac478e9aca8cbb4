import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { type HostileRelay, startHostileRelay } from '../support/hostile-relay.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';

type Rewrite = HostileRelay['rewrite'];

const OTHER_SPKI = 'ab'.repeat(32);

/** What a relay may say of a link that is not so. */
const inOffer =
  (change: (offer: Record<string, unknown>) => Record<string, unknown>): Rewrite =>
  (message) =>
    message.t === 'link.offer' ? { ...message, ...change(message) } : message;

const inPeer = (part: Record<string, unknown>): Rewrite =>
  inOffer((offer) => ({ peer: { ...(offer.peer as object), ...part } }));

const LIES: Readonly<Record<string, Rewrite>> = {
  'another connection': inOffer(() => ({ connection: 'payroll' })),
  'another key of the peer': inPeer({ spki: OTHER_SPKI }),
  'another name of the peer': inPeer({ name: 'gateway-7' }),
  'another instance of the peer': inPeer({ instance: '0192aaaa-0000-7000-8000-000000000000' }),
  'another link': inOffer(() => ({ link_id: '0192aaaa-0000-7000-8000-000000000001' })),
};

test('a relay in hostile hands gets no stream by lying about a link', async (t) => {
  const shop = await echo(t);
  const payroll = await echo(t);
  const deployment = await createDeployment(t, {
    publish: { shop: `127.0.0.1:${shop.port}`, payroll: `127.0.0.1:${payroll.port}` },
  });
  deployment.start('relay');
  await deployment.ready('relay');
  const hostile = await startHostileRelay(t, deployment);
  deployment.edit('agent', (settings) => {
    settings.relays = [
      { host: deployment.relayHost, control_port: hostile.controlPort, data_ports: [hostile.dataPort] },
    ];
  });
  deployment.edit('gateway', (settings) => {
    for (const connection of settings.connections as Record<string, unknown>[]) connection.eager = false;
  });
  deployment.start('agent');
  await deployment.ready('agent');
  const address = deployment.listenOf('shop');
  const freshGateway = async (): Promise<void> => {
    deployment.start('gateway');
    await deployment.ready('gateway');
  };

  await t.test('as long as it tells the truth, streams work', async () => {
    await freshGateway();
    assert.equal(await askOnce(t, address, 'through it'), 'through it');
    await deployment.kill('gateway');
  });

  const refused = async (): Promise<void> => {
    await freshGateway();
    const before = shop.sockets.length + payroll.sockets.length;
    const socket = dial(t, address);
    const end = readToEnd(socket, 40_000);
    socket.write('a secret');
    const { how, bytes } = await end;
    assert.notEqual(how, 'fin');
    assert.equal(bytes.length, 0);
    assert.equal(shop.sockets.length + payroll.sockets.length, before, 'no target was reached');
    await deployment.kill('gateway');
  };

  for (const [name, rewrite] of Object.entries(LIES)) {
    await t.test(`${name} in the offer`, async () => {
      hostile.rewrite = rewrite;
      await refused();
      await eventually('the agent recorded the refusal', async () => {
        const rows = await deployment.rows(
          "select from audit.event where type = 'link.refused' and agent = 'agent-1'",
        );
        return rows.length > 0 ? true : undefined;
      });
    });
  }

  await t.test('certificates of its own inside the data link', async () => {
    hostile.rewrite = (message) => message;
    hostile.swapCertificates = true;
    await refused();
    assert.ok(hostile.intercepted() > 0, 'it did get between them');
    assert.equal(hostile.readBytes(), 0, 'and neither end said a word');
    hostile.swapCertificates = false;
  });

  await t.test('afterwards streams work again', async () => {
    await freshGateway();
    assert.equal(await askOnce(t, address, 'again'), 'again');
  });
});
