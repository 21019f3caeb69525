// A journey with the generated TypeScript client: node journey.js URL EMAIL PASSWORD
import {
    AuthApi,
    Configuration,
    JobsApi,
    JobState,
    LogsApi,
    ProblemDocumentFromJSON,
    ResponseError,
    Stream,
    type Job,
    type JobDetail,
} from './client/index';

declare const process: { argv: string[]; exitCode: number };
declare const console: { log(text: string): void };

function expect(holds: boolean, what: string): void {
    if (!holds) {
        throw new Error(what);
    }
}

async function main(basePath: string, email: string, password: string): Promise<void> {
    const anonymous = new AuthApi(new Configuration({ basePath }));
    await anonymous.register({ registration: { email, password } });
    const login = await anonymous.login({ login: { email, password } });
    const configuration = new Configuration({ basePath, accessToken: login.token });
    const jobs = new JobsApi(configuration);

    const submitted: Job = await jobs.submitJob({
        idempotencyKey: 'typescript-1',
        jobSubmission: {
            script: 'echo "$GREETING"; cat "$QUEUEAPI_INPUT"',
            env: { GREETING: 'grüße' },
            inputData: [1, null, 'two'],
            gpuType: null,
            estimatedHours: 0.05,
        },
    });
    let job: JobDetail = await jobs.getJob({ jobId: submitted.id, wait: 30 });
    while (job.completedAt === null) {
        job = await jobs.getJob({ jobId: submitted.id, wait: 30 });
    }
    expect(job.status === JobState.Completed, `it is ${job.status}`);
    expect(job.completedAt instanceof Date, 'an instant is a Date');
    expect(job.gpuType === null && job.env['GREETING'] === 'grüße', 'null and maps keep');

    const logs = new LogsApi(configuration);
    const text = await logs.getJobLogs({ jobId: job.id, stream: Stream.Stdout });
    expect(text.startsWith('grüße\n[1,'), text);

    const error: unknown = await jobs.holdJob({ jobId: job.id }).catch((e: unknown) => e);
    expect(error instanceof ResponseError, 'a refusal is an error');
    const problem = ProblemDocumentFromJSON(await (error as ResponseError).response.json());
    expect(problem.type === '/problems/conflict' && problem.status === 409, problem.detail);
}

const [basePath, email, password] = process.argv.slice(2) as [string, string, string];
main(basePath, email, password).catch((error: unknown) => {
    console.log(String(error));
    process.exitCode = 1;
});
