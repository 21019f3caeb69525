/* Launch, crash, take-over and reconcile of one job by two servers: a model for Spin.
 *
 * docs/exactly-once.md says what each label stands for in the code, and what is left out.
 * `docs/models/check.sh` checks it.
 *
 * A step is what the world can't cut in two: a transaction, a rename, a lock. Between any two a
 * server can be killed, or lose its connection and not know it; an answer can be lost, the
 * machine of a run can fail: FAULTS times in all, in any mixture. A frozen server is one that
 * takes no step for long, while the lead is taken from it, and then goes on.
 *
 * Checked are, of every run of the model:
 *   at most one run      of the job at a time, none of an attempt that ran, none after the end
 *   charged once         what ran to its end, and nothing else
 *   a stale leader changes nothing
 *   no lost job          no run goes on for ever, and when nobody has anything left to do the
 *                        job has ended, in the right state
 *
 * Each of these takes a part of the design out, to see what it is for:
 *   NO_FENCE         a leader commits whatever the epoch is
 *   NO_ADOPTION      nobody takes up an attempt without a remote id
 *   NO_PREPARED      only one without a remote id is taken up, not one that never began
 *   NO_LAUNCH_LOCK   neither supervisor nor wrapper looks whether the run was begun: the two
 *                    below together
 *   NO_SUPERVISOR_LOCK, NO_STARTED_LOCK
 *   NO_FOLDER_LOCK   a second folder for the same key replaces the first
 * STALE_ALLOWED leaves the third check out, to see what else comes of a stale leader.
 */

#ifndef FAULTS
#define FAULTS 2
#endif
#ifdef NO_LAUNCH_LOCK
#define NO_SUPERVISOR_LOCK
#define NO_STARTED_LOCK
#endif
#define NOBODY 9
#define ATTEMPTS 2 /* the first, and one retry */

mtype = { absent, queued, placed, completed, failed, cancelled }; /* a job; placed: it has an open attempt */
mtype = { nothing, unknown, ended, lost };             /* what a poll tells */

/* ---- the database ---- */
mtype job = absent;
byte attempt = 0;      /* the number of the last */
bool open = false;     /* the last attempt is */
bool remote = false;   /* and its remote id is recorded */
bool inbox = false;    /* an entry for the job */
byte epoch = 0;        /* of the leadership row */
byte holder = NOBODY;  /* of the advisory lock */

/* ---- the cluster, by attempt, as each has a launch key of its own ---- */
typedef Folder {
    bool made;         /* the job's folder, renamed into place */
    byte starts[2];    /* supervisors that a server asked for and that have not begun */
    byte flight[2];    /* those of a server that it has heard nothing of yet */
    byte held;         /* holders of supervisor.lock */
    bool started;      /* the wrapper's start lock */
    bool outcome;      /* the exit record */
    bool orphan;       /* the script runs on although all that held the lock is gone */
    byte generation    /* of the folder: one, unless NO_FOLDER_LOCK lets it be replaced */
};
Folder folder[ATTEMPTS + 1];

/* ---- what only we, who look on, can see ---- */
byte alive = 0;        /* scripts that run now */
bool finished = false; /* one ran to its end, on record */
byte runs[ATTEMPTS + 1];
byte charges[ATTEMPTS + 1];
byte faults = FAULTS;
bool kill[2];

#ifdef NO_FENCE
#define STANDS(mine) true
#else
#define STANDS(mine) (mine == epoch)
#endif
#ifdef STALE_ALLOWED
#define CHANGES_AS_LEADER(mine)
#else
#define CHANGES_AS_LEADER(mine) assert(mine == epoch)
#endif

#define LAUNCHABLE(k) (!folder[k].outcome && !folder[k].held && !folder[k].started)
#ifdef NO_ADOPTION
#define IS_UNBEGUN(k) false
#elif defined(NO_PREPARED)
#define IS_UNBEGUN(k) (!folder[k].flight[me] && !knows_remote)
#else
#define IS_UNBEGUN(k) (!folder[k].flight[me] && (folder[k].made || !knows_remote))
#endif
#define HAS_NEWS(k) (folder[k].outcome || (!folder[k].held && (folder[k].started || IS_UNBEGUN(k))))
#define IN_SIGHT(k) (folder[k].generation == generation)

/* A transaction of the leader: the fence, then what it changes, in one step. Its connection may
 * fail before or after the commit; the server can't tell which, gives the lead up and begins
 * anew. */
#define TRANSACTION(change) \
    if \
    :: atomic { faults > 0 -> faults--; goto resign } \
    :: atomic { STANDS(mine) -> change; \
        if \
        :: faults > 0 -> faults--; goto resign \
        :: true \
        fi } \
    :: atomic { !STANDS(mine) -> goto resign } \
    fi

#define READ_JOB \
    knows = job; k = (job == placed -> attempt : 0); knows_remote = (job == placed && remote)

proctype Client() {
    bool answered = false;
submit: /* repeated with the same Idempotency-Key until there is an answer */
    do
    :: atomic { !answered ->
        if
        :: job == absent -> job = queued; inbox = true
        :: else /* the key is there: the answer of before */
        fi;
        if
        :: faults > 0 -> faults--
        :: answered = true
        fi }
    :: answered -> break
    od;
cancel: /* perhaps; of a job that has started, only the intent changes, which is not modelled */
    if
    :: atomic { job == queued -> job = cancelled; inbox = true }
    :: true
    fi
}

proctype Server(byte me) {
    byte mine = 0;         /* the epoch of its lead */
    mtype knows = absent;  /* its mirror of the job */
    byte k = 0;            /* the attempt that it knows of */
    bool knows_remote = false;
    bool saw_started = false;
    mtype seen = nothing;

begin:
    {
    true;
lead:
    atomic { holder == NOBODY && (me == 0 || epoch > 0) -> holder = me }; /* 0 is the first */
take:
    if
    :: atomic { holder == me -> epoch++; mine = epoch }
    :: atomic { holder != me -> goto resign }
    fi;
load:
    TRANSACTION(READ_JOB);

cycle:
    seen = nothing;
    if
    :: inbox ->
take_inbox:
        TRANSACTION(
            if
            :: inbox -> inbox = false; READ_JOB;
                CHANGES_AS_LEADER(mine)
            :: else
            fi);
        goto cycle
    :: knows == queued -> goto start
    :: knows == placed && HAS_NEWS(k) -> goto poll
    :: atomic { holder != me -> goto resign } /* it hears of the lost connection, or never does */
    fi;

start: /* as planned, if the job is still queued */
    TRANSACTION(
        if
        :: job == queued ->
            job = placed; attempt++; open = true; remote = false; inbox = true;
            knows = placed; k = attempt; knows_remote = false;
            CHANGES_AS_LEADER(mine)
        :: else -> knows = absent; goto cycle /* the inbox will tell */
        fi);

launch: /* executor.submit(), outside any transaction */
    if
    :: atomic { faults > 0 -> faults--; goto cycle } /* it did not get there */
    :: atomic { folder[k].made -> goto found }
    :: !folder[k].made
    fi;
make_folder:
    atomic {
        if
#ifdef NO_FOLDER_LOCK
        :: folder[k].made -> /* replaced: an empty one, with locks of its own */
            folder[k].generation++; folder[k].started = false; folder[k].outcome = false;
            folder[k].held = 0
#else
        :: folder[k].made -> goto found
#endif
        :: else -> folder[k].made = true
        fi
    };
    goto fork;
found: /* adopted, unless nothing was ever started in it */
    if
    :: atomic { !LAUNCHABLE(k) -> goto answer }
    :: LAUNCHABLE(k)
    fi;
fork:
    atomic { folder[k].starts[me]++; folder[k].flight[me]++; goto answer };
answer:
    if
    :: atomic { faults > 0 -> faults--; goto cycle } /* it was lost */
    :: true
    fi;
record_remote:
    TRANSACTION(
        knows_remote = true;
        if
        :: attempt == k && open -> remote = true; CHANGES_AS_LEADER(mine)
        :: else
        fi);
    goto cycle;

poll: /* the order of the three looks matters */
    if
    :: atomic { folder[k].outcome -> seen = ended; goto settle }
    :: else
    fi;
    saw_started = folder[k].started;
    if
    :: atomic { folder[k].held > 0 -> saw_started = false; goto cycle } /* it lives */
    :: !folder[k].held
    fi;
    atomic {
        if
        :: folder[k].outcome -> seen = ended
        :: !folder[k].outcome && saw_started -> seen = lost;
            if /* whatever is left of it is killed first */
            :: folder[k].orphan -> folder[k].orphan = false; alive--
            :: else
            fi
        :: !folder[k].outcome && !saw_started && IS_UNBEGUN(k) ->
            goto launch /* adoption: it was not launched, or nothing came of it */
        :: !folder[k].outcome && !saw_started && !IS_UNBEGUN(k) ->
            goto cycle /* unknown is not failed */
        fi;
        saw_started = false
    };

settle:
    TRANSACTION(
        if
        :: attempt == k && open ->
            open = false; inbox = true; CHANGES_AS_LEADER(mine);
            if
            :: seen == ended -> charges[k]++; assert(charges[k] == 1); job = completed
            :: seen == lost && k < ATTEMPTS -> job = queued
            :: seen == lost && k == ATTEMPTS -> job = failed
            fi
        :: else
        fi;
        knows = absent; k = 0; knows_remote = false; seen = nothing);
    goto cycle;

resign:
    atomic {
        if
        :: holder == me -> holder = NOBODY
        :: else
        fi;
        mine = 0; knows = absent; k = 0; knows_remote = false; seen = nothing;
        saw_started = false
    };
    goto lead
    } unless {
        atomic { kill[me] ->
            kill[me] = false;
            folder[1].flight[me] = 0; folder[2].flight[me] = 0;
            mine = 0; knows = absent; k = 0; knows_remote = false;
            seen = nothing; saw_started = false }
    };
    goto begin
}

/* A supervisor, and the wrapper that it starts. */
bool busy = false; /* the first of them is: so that a second one adds no mirror images */
#define HEARD if :: folder[k].flight[who] > 0 -> folder[k].flight[who]-- :: else fi
#define FORGET k = 0; who = 0; generation = 0; busy = busy && second

proctype Start(bool second) {
    byte k = 0;
    byte who = 0; /* the server that asked for it */
    byte generation = 0;
next:
    atomic {
        if
        :: (!second || busy) && folder[1].starts[0] > 0 -> k = 1
        :: (!second || busy) && folder[2].starts[0] > 0 -> k = 2
        :: (!second || busy) && folder[1].starts[1] > 0 -> k = 1; who = 1
        :: (!second || busy) && folder[2].starts[1] > 0 -> k = 2; who = 1
        fi;
        busy = busy || !second;
        folder[k].starts[who]--; generation = folder[k].generation
    };
supervisor:
    atomic {
#ifndef NO_SUPERVISOR_LOCK
        if
        :: IN_SIGHT(k) && !LAUNCHABLE(k) -> HEARD; FORGET; goto next
        :: else
        fi;
#endif
        if
        :: IN_SIGHT(k) -> folder[k].held++
        :: else
        fi
    };
    if
    :: true
    :: atomic { faults > 0 -> faults--; HEARD; goto leave } /* it is killed before it starts any */
    fi;
wrapper:
    atomic {
#ifndef NO_STARTED_LOCK
        if
        :: IN_SIGHT(k) && folder[k].started -> HEARD; goto leave
        :: else
        fi;
#endif
        if
        :: IN_SIGHT(k) -> folder[k].started = true
        :: else
        fi;
        HEARD;
        runs[k]++; alive++;
        assert(runs[k] == 1); /* no attempt runs twice */
        assert(alive == 1);   /* no two of them at a time */
        assert(!finished);    /* none after one that ended */
        assert(job != cancelled) /* nor of a job that was cancelled before */
    };
script:
    if
    :: alive-- /* it ends */
    :: atomic { faults > 0 -> faults--; alive--; goto leave } /* the machine fails */
    :: atomic { faults > 0 && IN_SIGHT(k) -> faults--; /* all but the script are killed */
        folder[k].orphan = true; goto leave }
    fi;
exit_record:
    if
    :: atomic { true -> finished = true;
        if
        :: IN_SIGHT(k) -> folder[k].outcome = true
        :: else
        fi }
    :: atomic { faults > 0 -> faults-- } /* the machine fails */
    fi;
leave:
    atomic {
        if
        :: IN_SIGHT(k) && folder[k].held > 0 -> folder[k].held--
        :: else
        fi;
        FORGET; goto next
    }
}

/* kill -9 of a server, and a connection that is lost while its server does not know it. */
proctype World() {
fault:
    do
    :: atomic { faults > 0 -> faults--;
        if
        :: !kill[0] -> kill[0] = true; if :: holder == 0 -> holder = NOBODY :: else fi
        :: !kill[1] -> kill[1] = true; if :: holder == 1 -> holder = NOBODY :: else fi
        :: holder != NOBODY -> holder = NOBODY
        fi }
    od
}

/* When nobody has anything left to do. */
proctype Rest() {
    timeout ->
    assert(job == completed || job == failed || job == cancelled); /* no lost job */
    assert((job == completed) == finished && !open); /* and in the right state */
    assert(!alive);
    assert(charges[1] + charges[2] == (job == completed))
}

init {
    atomic {
        run Client(); run Server(0); run Server(1); run Start(false); run Start(true); run World();
        run Rest()
    }
}
