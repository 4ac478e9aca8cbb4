import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createAuthority, systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { startTestAgent, startTestGateway, startTestRelay } from './ends-fixture.ts';

const otherAuthority = async (t: TestContext): Promise<string> => {
  const file = join(temporaryDirectory(t), 'other-ca.pem');
  writeFileSync(file, (await createAuthority('another authority', systemClock)).certPem);
  return file;
};

/** What `/readyz` says of the certificate, once it says something of it. */
const untilSaid = ({ statusUrl }: { readonly statusUrl: string }): Promise<string> =>
  eventually('the certificate is not trusted', async () => {
    const response = await fetch(`${statusUrl}/readyz`);
    const { reasons } = (await response.json()) as { reasons: readonly string[] };
    return reasons.find((reason) => reason.includes("the server's certificate"));
  });

test('agent and gateway with a wrong ca_file name it, the issuer and what to do', async (t) => {
  const file = await otherAuthority(t);
  const relay = await startTestRelay(t, 5_432);
  const { agent } = await startTestAgent(t, relay, 5_432, { config: { ca_file: file } });
  const { gateway } = await startTestGateway(t, relay, { config: { ca_file: file } });
  for (const process of [agent, gateway]) {
    const said = await untilSaid(process);
    assert.ok(
      said.includes(
        `certificate, issued by "CN=test authority", is vouched for by no authority of ca_file ${file} (`,
      ),
      said,
    );
    assert.match(said, /\(UNABLE_TO_VERIFY_LEAF_SIGNATURE: /);
    assert.match(
      said,
      /; put the certificate of the authority that issued it \(PEM\) into ca_file and restart, or correct relays: /,
    );
  }
});

test('a relay port that does not speak TLS is named as such', async (t) => {
  const plain = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  t.after(() => plain.close());
  const { port } = plain.address() as AddressInfo;
  const relay = await startTestRelay(t, 5_432);
  const { agent } = await startTestAgent(
    t,
    { ...relay, config: { ...relay.config, control_port: port } },
    5_432,
    {},
  );
  await eventually('the port is named', async () => {
    const response = await fetch(`${agent.statusUrl}/readyz`);
    const { reasons } = (await response.json()) as { reasons: readonly string[] };
    return reasons.find((reason) =>
      reason.includes(`:${port} does not speak TLS: is it the relay's control port?`),
    );
  });
});

test('without ca_file the message says that it is not set', async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const { agent } = await startTestAgent(t, relay, 5_432, { config: { ca_file: undefined } });
  assert.match(
    await untilSaid(agent),
    /of the system, and ca_file is not set \(.*; name the file .* as ca_file, or correct relays: /,
  );
});

test('a ca_file without a certificate is refused at the start, by name', async (t) => {
  const file = join(temporaryDirectory(t), 'empty.pem');
  writeFileSync(file, 'no certificate\n');
  const relay = await startTestRelay(t, 5_432);
  const message = { message: `ca_file ${file} holds no certificate in PEM` };
  const config = { ca_file: file };
  await assert.rejects(startTestAgent(t, relay, 5_432, { config }), { code: 'ERR_AGENT_CONFIG', ...message });
  await assert.rejects(startTestGateway(t, relay, { config }), { code: 'ERR_GATEWAY_CONFIG', ...message });
});
