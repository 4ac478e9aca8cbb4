import { join } from 'node:path';
import { projectRoot } from '../../support/command.ts';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../../support/tls-postgres.ts';
import { buildTool, missingTool } from '../build-tool.ts';
import type { DriverFamily } from '../family.ts';
import { POSTGRES } from '../servers.ts';

const TOOL = 'build-go-drivers.mjs';

/** Programs in Go, built without C. */
export const go: DriverFamily = {
  name: 'Go',
  needs: {},
  missing: missingTool('.tools/go-drivers/made-from', TOOL),
  async setUp(_t, { caFile }) {
    await buildTool(TOOL);
    const postgres = (password: string): string =>
      `postgres://${TLS_POSTGRES_USER}:${password}@${POSTGRES.host}/postgres?sslmode=verify-full&sslrootcert=${caFile}`;
    return {
      targets: {},
      cases: [
        {
          name: 'pgx, PostgreSQL, verify-full',
          connection: 'postgres',
          program: join(projectRoot, '.tools/go-drivers/drivers'),
          args: [postgres(TLS_POSTGRES_PASSWORD), postgres('wrong')],
          prints: [
            'TLS true',
            '8000 rows, 8000000 bytes',
            '4 at the same time',
            'ERROR: canceling statement due to user request (SQLSTATE 57014)',
            `FATAL: password authentication failed for user "${TLS_POSTGRES_USER}" (SQLSTATE 28P01)\n`,
          ].join('\n'),
          // The pool's four, the request to cancel (over TLS, so that it is answered), the wrong password.
          maxStreams: 6,
        },
      ],
    };
  },
};
