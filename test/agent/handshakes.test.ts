import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_HANDSHAKES } from '../../src/agent/connector.ts';
import type { LinkOffer } from '../../src/protocol/index.ts';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';
import { credential, type Relay, TestLogin } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { MemoryAudit } from './memory-audit.ts';
import { CONNECTION, startTestAgent, startTestRelay } from './ends-fixture.ts';

const PORT = 5_432;

test('an agent has MAX_HANDSHAKES data links in the making over all nodes; more are refused as overloaded', async (t) => {
  const first = await startTestRelay(t, PORT);
  // Each node holds an agent to as many itself: only two nodes together can offer more.
  const second = await startTestRelay(t, PORT, 'localhost');
  const audit = new MemoryAudit();
  let opening = 0;
  let stopped: Promise<never> | undefined;
  await startTestAgent(t, first, PORT, {
    relays: [first, second],
    deps: {
      audit,
      // A handshake that neither ends nor fails until the agent stops.
      openLink: ({ signal }) => {
        opening += 1;
        stopped ??= new Promise((_resolve, reject) => {
          signal?.addEventListener('abort', () => reject(new Error('stopped')), { once: true });
        });
        return stopped;
      },
    },
  });
  const { spki } = await createLinkCertificate('gateway', systemClock);
  const gatewayAt = async (relay: Relay) => {
    const gateway = new TestLogin(relay.config, 'gateway', 'gateway-1', [credential('k_send', CONNECTION)]);
    gateway.login.start();
    const { cred } = await gateway.until('onAttached');
    const ask = async (): Promise<LinkOffer | undefined> => {
      const offer = await gateway.login.requestLink({ cred, connection: CONNECTION, spki, exclude: [] });
      return 'refused' in offer ? undefined : offer;
    };
    await eventually('the agent publishes', () =>
      relay.node.live.logins().some((login) => login.published.includes(CONNECTION)) ? true : undefined,
    );
    return { gateway, ask };
  };
  const one = await gatewayAt(first);
  const other = await gatewayAt(second);
  for (let n = 0; n < MAX_HANDSHAKES; n += 1) assert.ok(await one.ask());
  await eventually('all are being opened', () => (opening === MAX_HANDSHAKES ? true : undefined));
  const offer = await other.ask();
  assert.ok(offer);
  const refused = await audit.until('link.refused', ({ subject }) => subject.link_id === offer.link_id);
  assert.equal(refused.data.reason, 'overloaded');
  await other.gateway.until('onLinkClosed', ({ link_id }) => link_id === offer.link_id);
  assert.equal(opening, MAX_HANDSHAKES, 'no handshake was begun for it');
});
