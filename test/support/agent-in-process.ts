import { join } from 'node:path';
import { type AgentDeps, type AgentProcess, agentConfigSchema, startAgent } from '../../src/agent/index.ts';
import { type FileHooks, openAuditLog } from '../../src/audit/index.ts';
import { readConfig, silentLogger, systemClock } from '../../src/runtime/index.ts';
import type { Deployment } from './deployment.ts';
import type { Closer } from './temporary.ts';

/** The deployment's agent inside the test, with hooks into the spool's files, against the real other two. */
export const startAgentHere = async (
  t: Closer,
  deployment: Deployment,
  hooks: FileHooks,
  deps: Partial<AgentDeps> = {},
): Promise<AgentProcess> => {
  const config = await readConfig(join(deployment.directory, 'agent.yaml'), agentConfigSchema);
  const audit = await openAuditLog({
    spoolDir: config.audit.spool_dir,
    keyFile: config.audit.key_file,
    origin: {
      kind: 'agent',
      name: config.name,
      instance: 'in-test',
      namespace: config.namespace,
      version: 'test',
    },
    database: config.audit.database_url === undefined ? undefined : { url: config.audit.database_url },
    clock: systemClock,
    logger: silentLogger,
    files: hooks,
  });
  const agent = await startAgent(config, { clock: systemClock, logger: silentLogger, audit, ...deps });
  t.after(async () => {
    await agent.close();
    await audit.close();
  });
  return agent;
};
