import type { Command } from 'commander';
import { AppError, environment } from '../runtime/index.ts';
import type { SchemaName } from './deploy/database.ts';
import { outputOf } from './output.ts';
import { requireDatabaseUrl } from './up/options.ts';

const SCHEMAS: Readonly<Record<string, readonly SchemaName[]>> = {
  audit: ['audit'],
  control: ['control'],
  all: ['audit', 'control'],
};

interface MigrateOptions {
  readonly database?: string;
  readonly schema: string;
  readonly roles: boolean;
}

export const migrateCommand = (program: Command): void => {
  program
    .command('migrate')
    .summary('bring a database up to date')
    .description(
      'Applies what is missing of the schemas `audit` and `control`, forward only; a database that is newer than ' +
        'this version is refused. Connects to: the database given, as a role that may create schemas and roles.',
    )
    .option('--database <url>', 'PostgreSQL, as its owner; default: DATABASE_URL')
    .option('--schema <name>', 'audit, control or all', 'all')
    .option('--no-roles', 'create no roles; print their SQL for whoever may')
    .action(async (options: MigrateOptions, command: Command) => {
      const output = outputOf(command);
      const schemas = SCHEMAS[options.schema];
      if (schemas === undefined) {
        throw new AppError(
          'ERR_CLI_USAGE',
          `--schema is audit, control or all, not ${JSON.stringify(options.schema)}`,
        );
      }
      const url = options.database ?? environment['DATABASE_URL'];
      if (url === undefined || url === '') {
        throw new AppError('ERR_CLI_USAGE', 'which database? give --database URL or set DATABASE_URL');
      }
      requireDatabaseUrl(url);
      const { migrateSchema, roleSqlOf } = await import('./deploy/database.ts');
      const results = [];
      for (const schema of schemas) {
        output.progress(`migrating ${schema}`);
        const result = await migrateSchema(url, schema, options.roles);
        results.push(result);
        output.line(
          result.applied.length === 0
            ? `${schema}: already up to date`
            : `${schema}: applied ${result.applied.join(', ')}`,
        );
      }
      const roles = options.roles ? '' : schemas.map(roleSqlOf).join('');
      output.document(options.roles ? results : { results, role_sql: roles });
      if (roles !== '') output.line(roles);
    });
};
