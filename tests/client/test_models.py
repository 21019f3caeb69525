"""The SDK's documents are the server's."""

import pytest
from pydantic import BaseModel

from queueapi import problems
from queueapi.auth import schemas as auth
from queueapi.client import clusters as shown_clusters
from queueapi.client import doctor as doctors
from queueapi.client import files as shown_files
from queueapi.client import folders, hosts, models, nodes, proofs
from queueapi.client import previews as shown
from queueapi.client.submitted import SubmittedJob
from queueapi.clusters import cluster_schemas as described
from queueapi.clusters import reservation_schemas as reservations
from queueapi.clusters import schemas as clusters
from queueapi.clusters.account_schemas import AccountDocument
from queueapi.clusters.importing import Imported
from queueapi.doctor import schemas as doctor
from queueapi.files import schemas as files
from queueapi.groups import schemas as groups
from queueapi.jobs import array_schemas as arrays
from queueapi.jobs import dependency_schemas as dependencies
from queueapi.jobs import file_schemas as job_files
from queueapi.jobs import preview_schemas as previews
from queueapi.jobs import proof_schemas as proof
from queueapi.jobs import scheduler_status as scheduler
from queueapi.jobs import schemas as jobs
from queueapi.jobs import workflow_schemas as workflows
from queueapi.queues import schemas as queues
from queueapi.servers import schemas as servers

PAIRS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (models.Job, jobs.Job),
    (SubmittedJob, jobs.SubmittedJob),
    (models.JobDetail, jobs.JobDetail),
    (models.Dependency, dependencies.DependencyDocument),
    (models.JobCounts, workflows.JobCounts),
    (models.WorkflowSummary, workflows.WorkflowSummary),
    (models.WorkflowDependency, workflows.WorkflowDependency),
    (models.WorkflowMember, workflows.WorkflowMember),
    (models.Workflow, workflows.WorkflowDocument),
    (models.Array, arrays.ArrayDocument),
    (models.JobCounts, arrays.TaskCounts),
    (models.Attempt, jobs.AttemptDocument),
    (models.NodeShare, jobs.NodeShare),
    (models.Usage, jobs.Usage),
    (models.Priority, jobs.Priority),
    (models.Event, jobs.Event),
    (models.QueueEntry, jobs.QueueEntry),
    (models.QueuePage, jobs.QueuePage),
    (models.StartRange, jobs.StartRange),
    (shown.FieldProblem, problems.FieldProblem),
    (shown.Problem, problems.ProblemDocument),
    (shown.QuotaPreview, previews.QuotaPreview),
    (shown.DelayedJob, previews.DelayedJob),
    (shown.JobPreview, previews.JobPreview),
    (doctors.Check, doctor.CheckDocument),
    (doctors.Finding, doctor.FindingDocument),
    (doctors.CheckResult, doctor.CheckResult),
    (proofs.LaunchProof, proof.LaunchProof),
    (proofs.AttemptProof, proof.AttemptProof),
    (proofs.SubmissionProof, proof.SubmissionProof),
    (proofs.ProofStep, proof.ProofStep),
    (proofs.StartLock, proof.StartLock),
    (proofs.ExitRecord, proof.ExitRecord),
    (models.SchedulerStatus, scheduler.SchedulerStatus),
    (models.SchedulerLeader, scheduler.SchedulerLeader),
    (models.SchedulerPolicy, scheduler.SchedulerPolicy),
    (models.SchedulerCycle, scheduler.SchedulerCycle),
    (models.EstimateQuality, scheduler.EstimateQuality),
    (models.Queue, queues.QueueDocument),
    (models.TokenPair, auth.TokenPair),
    (models.User, auth.UserView),
    (models.Membership, groups.MembershipView),
    (models.Profile, groups.Profile),
    (models.Registered, groups.Registered),
    (models.GroupSummary, groups.GroupSummary),
    (models.Group, groups.GroupView),
    (models.Member, groups.Member),
    (shown_clusters.Cluster, described.ClusterDocument),
    (shown_clusters.Caps, described.CapsDocument),
    (shown_clusters.People, described.People),
    (shown_clusters.ClusterConnection, described.Connection),
    (shown_clusters.ClusterTest, described.ClusterTest),
    (shown_clusters.Check, described.CheckDocument),
    (shown_clusters.ImportedClusters, Imported),
    (shown_clusters.ClusterAccount, AccountDocument),
    (shown_files.JobFile, job_files.JobFile),
    (nodes.Amounts, clusters.Amounts),
    (nodes.Node, clusters.NodeDocument),
    (hosts.Host, servers.HostDocument),
    (hosts.HostList, servers.HostList),
    (hosts.ServerProcess, servers.ServerDocument),
    (folders.Folder, files.FolderDocument),
    (folders.FolderDetail, files.FolderDetail),
    (folders.FolderFile, files.FolderFile),
    (nodes.Reservation, reservations.ReservationDocument),
]


@pytest.mark.parametrize(("ours", "servers"), PAIRS, ids=lambda kind: kind.__name__)
def test_same_fields(ours: type[BaseModel], servers: type[BaseModel]) -> None:
    assert set(ours.model_fields) == set(servers.model_fields)


def test_what_a_newer_server_adds_is_kept() -> None:
    usage = models.Usage.model_validate(
        {"cpu_minutes": 1, "gpu_minutes": 0, "memory_gb_minutes": 2, "watts": 3}
    )
    assert usage.model_dump()["watts"] == 3
