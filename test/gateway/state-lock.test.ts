import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startTestGateway, startTestRelay } from '../agent/ends-fixture.ts';
import { stateDirectoryError } from '../../src/runtime/index.ts';
import { temporaryDirectory } from '../support/temporary.ts';

test('a second gateway on one state_dir is refused with the process that has it, until that is gone', async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const config = { state_dir: join(temporaryDirectory(t), 'state') };
  const { gateway } = await startTestGateway(t, relay, { config });
  await assert.rejects(startTestGateway(t, relay, { config }), {
    code: 'ERR_GATEWAY_STATE',
    message: new RegExp(
      `^another gateway \\(process ${process.pid}\\) uses state_dir ${config.state_dir}; stop it`,
    ),
  });
  await gateway.close();
  await startTestGateway(t, relay, { config });
});

test('a state_dir that cannot be made is named with what the system said', async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  await assert.rejects(startTestGateway(t, relay, { config: { state_dir: join(file, 'state') } }), {
    code: 'ERR_GATEWAY_STATE',
    message: /^state_dir .*file\/state cannot be used: ENOTDIR/,
  });
  assert.match(
    stateDirectoryError('ERR_GATEWAY_STATE', '/x', Object.assign(new Error('no'), { code: 'EACCES' }))
      .message,
    /no; run the process as the owner of that directory/,
  );
});
