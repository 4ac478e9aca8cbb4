import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MakeLogin } from '../../src/agent/connector.ts';
import { ManagedLogins } from '../../src/agent/managed-login.ts';
import type { NodeLoginOptions } from '../../src/protocol/index.ts';
import { silentLogger } from '../../src/runtime/index.ts';

type Login = ReturnType<MakeLogin>;

const rig = () => {
  const lines: string[] = [];
  const made: NodeLoginOptions[] = [];
  const make: MakeLogin = (options) => {
    const number = made.push(options);
    const say = (text: string): void => {
      lines.push(`${number} ${text}`);
    };
    const line = (text: string) => (): void => say(text);
    return {
      start: line('start'),
      state: () => ({ kind: 'connecting', node: options.node.host, down: undefined }),
      close: () => {
        say('close');
        return Promise.resolve();
      },
      publish: (connection) => {
        say(`publish ${connection}`);
        return Promise.resolve();
      },
      unpublish: (connection) => say(`unpublish ${connection}`),
      attach: ({ handle }) => say(`attach ${handle}`),
      detach: (handle) => say(`detach ${handle}`),
      reportLinkFailed: line('failed'),
      reportHealth: line('health'),
    };
  };
  const control = { allows: true };
  const logins = new ManagedLogins(make, () => control.allows);
  const options = {
    node: { host: 'relay.test', control_port: 1, data_ports: [2] },
    logger: silentLogger,
    credentials: [],
    handlers: {
      onDown: ({ code }: { code: string }) => lines.push(`down ${code}`),
      onOffer: () => lines.push('offer'),
    },
  } as unknown as NodeLoginOptions;
  const login: Login = logins.make(options);
  return { lines, made, control, logins, login };
};

test('a node that is not allowed is not dialled, and says why', async () => {
  const { lines, made, control, login } = rig();
  control.allows = false;
  login.start();
  assert.equal(made.length, 0);
  const { down } = login.state() as { down?: { code: string } };
  assert.equal(down?.code, 'managed_denied');
  await assert.rejects(login.publish('db', 'h', 's'), { code: 'ERR_AGENT_MANAGED' });
  login.unpublish('db');
  login.reportHealth({});
  await login.close();
  assert.deepEqual(lines, []);
});

test('a login ends when its node is no longer allowed, takes back what it published, and is heard no more', async () => {
  const { lines, made, control, logins, login } = rig();
  login.start();
  await login.publish('db', 'h', 's');
  await login.publish('other', 'h', 's');
  login.unpublish('other');
  control.allows = false;
  logins.govern();
  logins.govern();
  assert.deepEqual(lines.splice(0), [
    '1 start',
    '1 publish db',
    '1 publish other',
    '1 unpublish other',
    '1 unpublish db',
    '1 close',
    'down managed_denied',
  ]);
  made[0]?.handlers.onOffer?.({} as never);
  made[0]?.handlers.onDown?.({ code: 'late', detail: '', retryInMs: 0 });
  assert.deepEqual(lines, []);

  control.allows = true;
  logins.govern();
  made[1]?.handlers.onOffer?.({} as never);
  assert.deepEqual(lines, ['2 start', 'offer']);
  await login.close();
  logins.govern();
  assert.equal(made.length, 2);
  assert.equal(login.state().kind, 'closed');
});

test('nothing is dialled before the start', () => {
  const { made, logins, login } = rig();
  logins.govern();
  assert.equal(made.length, 0);
  login.start();
  assert.equal(made.length, 1);
});

test('a login that is allowed again holds the credentials of the moment, not those of the start', async () => {
  const { lines, made, control, logins, login } = rig();
  login.start();
  const source = (handle: string): Parameters<Login['attach']>[0] => ({ handle }) as never;
  login.attach(source('old'));
  control.allows = false;
  logins.govern();
  login.attach(source('new'));
  login.detach('old');
  assert.deepEqual(lines.splice(0), ['1 start', '1 attach old', '1 close', 'down managed_denied']);
  control.allows = true;
  logins.govern();
  assert.deepEqual(
    made[1]?.credentials.map(({ handle }) => handle),
    ['new'],
  );
  await login.close();
});
