"""the review desk, guardrails, Label Studio"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.db.types import Json, UtcDateTime
from services.preferences import search
from services.preferences.evidence import lottery

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('bulk_actions',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('value', sa.String(), nullable=True),
    sa.Column('filters', Json, nullable=True),
    sa.Column('changed', sa.Integer(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('undoes_id', sa.String(), nullable=True),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_bulk_actions')),
    sa.UniqueConstraint('undoes_id', name=op.f('uq_bulk_actions_undoes_id'))
    )
    with op.batch_alter_table('bulk_actions', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_bulk_actions_tenant_id_created_at'), ['tenant_id', 'created_at'], unique=False)

    op.create_table('guardrail_policies',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('digest', sa.String(), nullable=False),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_guardrail_policies')),
    sa.UniqueConstraint('tenant_id', 'version', name=op.f('uq_guardrail_policies_tenant_id_version'))
    )
    op.create_table('label_studio_people',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('server', sa.String(), nullable=False),
    sa.Column('remote_id', sa.Integer(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('label', sa.String(), nullable=False),
    sa.Column('annotator_id', sa.String(), nullable=True),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_label_studio_people')),
    sa.UniqueConstraint('tenant_id', 'server', 'remote_id', 'version', name=op.f('uq_label_studio_people_tenant_id_server_remote_id_version'))
    )
    op.create_table('label_studio_projects',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('server', sa.String(), nullable=False),
    sa.Column('title', sa.String(), nullable=False),
    sa.Column('is_blind', sa.Boolean(), nullable=False),
    sa.Column('language', sa.String(), nullable=False),
    sa.Column('overlap', sa.Integer(), nullable=False),
    sa.Column('remote_id', sa.Integer(), nullable=True),
    sa.Column('hook_id', sa.Integer(), nullable=True),
    sa.Column('hook_note', sa.String(), nullable=False),
    sa.Column('cursor', UtcDateTime(), nullable=True),
    sa.Column('checked_at', UtcDateTime(), nullable=True),
    sa.Column('synced_at', UtcDateTime(), nullable=True),
    sa.Column('asked_at', UtcDateTime(), nullable=True),
    sa.Column('holder', sa.String(), nullable=True),
    sa.Column('held_until', UtcDateTime(), nullable=True),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_label_studio_projects'))
    )
    with op.batch_alter_table('label_studio_projects', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_label_studio_projects_tenant_id'), ['tenant_id'], unique=False)

    op.create_table('pair_views',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('view_id', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('owner_id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('filters', Json, nullable=False),
    sa.Column('is_shared', sa.Boolean(), nullable=False),
    sa.Column('is_removed', sa.Boolean(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_pair_views')),
    sa.UniqueConstraint('view_id', 'version', name=op.f('uq_pair_views_view_id_version'))
    )
    with op.batch_alter_table('pair_views', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_pair_views_tenant_id'), ['tenant_id'], unique=False)

    op.create_table('review_groups',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('group_id', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('members', Json, nullable=False),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_review_groups')),
    sa.UniqueConstraint('group_id', 'version', name=op.f('uq_review_groups_group_id_version'))
    )
    op.create_table('review_policies',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('overlap', sa.Integer(), nullable=False),
    sa.Column('risky_overlap', sa.Integer(), nullable=False),
    sa.Column('is_revealing', sa.Boolean(), nullable=False),
    sa.Column('gold_every', sa.Integer(), nullable=False),
    sa.Column('too_fast_ms', sa.Integer(), nullable=False),
    sa.Column('guidelines', Json, nullable=False),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_review_policies')),
    sa.UniqueConstraint('tenant_id', 'version', name=op.f('uq_review_policies_tenant_id_version'))
    )
    op.create_table('quality_reports',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('job_id', sa.String(), nullable=False),
    sa.Column('sha256', sa.String(), nullable=False),
    sa.Column('choices', Json, nullable=False),
    sa.Column('content', Json, nullable=False),
    sa.Column('actor_id', sa.String(), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_quality_reports_job_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_quality_reports')),
    sa.UniqueConstraint('job_id', name=op.f('uq_quality_reports_job_id'))
    )
    with op.batch_alter_table('quality_reports', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_quality_reports_tenant_id_created_at'), ['tenant_id', 'created_at'], unique=False)

    op.create_table('bulk_changes',
    sa.Column('action_id', sa.String(), nullable=False),
    sa.Column('pair_id', sa.String(), nullable=False),
    sa.Column('before', sa.String(), nullable=True),
    sa.Column('after', sa.String(), nullable=True),
    sa.Column('decision', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['action_id'], ['bulk_actions.id'], name=op.f('fk_bulk_changes_action_id')),
    sa.ForeignKeyConstraint(['pair_id'], ['pairs.id'], name=op.f('fk_bulk_changes_pair_id')),
    sa.PrimaryKeyConstraint('action_id', 'pair_id', name=op.f('pk_bulk_changes'))
    )
    with op.batch_alter_table('bulk_changes', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_bulk_changes_pair_id'), ['pair_id'], unique=False)

    op.create_table('edit_drafts',
    sa.Column('annotator_id', sa.String(), nullable=False),
    sa.Column('response_id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('pair_id', sa.String(), nullable=False),
    sa.Column('text', sa.String(), nullable=False),
    sa.Column('updated_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['pair_id'], ['pairs.id'], name=op.f('fk_edit_drafts_pair_id')),
    sa.PrimaryKeyConstraint('annotator_id', 'response_id', name=op.f('pk_edit_drafts'))
    )
    op.create_table('label_studio_tasks',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('project_id', sa.String(), nullable=False),
    sa.Column('pair_id', sa.String(), nullable=False),
    sa.Column('left_response_id', sa.String(), nullable=False),
    sa.Column('right_response_id', sa.String(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('has_prediction', sa.Boolean(), nullable=False),
    sa.Column('remote_id', sa.Integer(), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['pair_id'], ['pairs.id'], name=op.f('fk_label_studio_tasks_pair_id')),
    sa.ForeignKeyConstraint(['project_id'], ['label_studio_projects.id'], name=op.f('fk_label_studio_tasks_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_label_studio_tasks')),
    sa.UniqueConstraint('project_id', 'remote_id', name=op.f('uq_label_studio_tasks_project_id_remote_id'))
    )
    with op.batch_alter_table('label_studio_tasks', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_label_studio_tasks_pair_id'), ['pair_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_label_studio_tasks_project_id_state'), ['project_id', 'state'], unique=False)

    op.create_table('pair_claims',
    sa.Column('pair_id', sa.String(), nullable=False),
    sa.Column('place', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('annotator_id', sa.String(), nullable=False),
    sa.Column('until', UtcDateTime(), nullable=True),
    sa.Column('review_id', sa.String(), nullable=True),
    sa.Column('is_random', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['pair_id'], ['pairs.id'], name=op.f('fk_pair_claims_pair_id')),
    sa.PrimaryKeyConstraint('pair_id', 'place', name=op.f('pk_pair_claims')),
    sa.UniqueConstraint('pair_id', 'annotator_id', name=op.f('uq_pair_claims_pair_id_annotator_id'))
    )
    with op.batch_alter_table('pair_claims', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_pair_claims_tenant_id_annotator_id_until_place'), ['tenant_id', 'annotator_id', 'until', 'place'], unique=False)
        batch_op.create_index(batch_op.f('ix_pair_claims_tenant_id_until'), ['tenant_id', 'until'], unique=False)

    op.create_table('pair_judgments',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('pair_id', sa.String(), nullable=False),
    sa.Column('first_response_id', sa.String(), nullable=False),
    sa.Column('second_response_id', sa.String(), nullable=False),
    sa.Column('preferred_response_id', sa.String(), nullable=True),
    sa.Column('scores', Json, nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('judge', sa.String(), nullable=False),
    sa.Column('revision', sa.String(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['pair_id'], ['pairs.id'], name=op.f('fk_pair_judgments_pair_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_pair_judgments'))
    )
    with op.batch_alter_table('pair_judgments', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_pair_judgments_pair_id'), ['pair_id'], unique=False)

    op.create_table('label_studio_annotations',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('tenant_id', sa.String(), nullable=False),
    sa.Column('project_id', sa.String(), nullable=False),
    sa.Column('task_id', sa.String(), nullable=False),
    sa.Column('annotation_id', sa.Integer(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('digest', sa.String(), nullable=False),
    sa.Column('changed_at', UtcDateTime(), nullable=False),
    sa.Column('remote_user', sa.Integer(), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('review_id', sa.String(), nullable=True),
    sa.Column('answer', Json, nullable=True),
    sa.Column('seen_at', UtcDateTime(), nullable=False),
    sa.Column('is_current', sa.Boolean(), nullable=False),
    sa.Column('is_gone', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['label_studio_projects.id'], name=op.f('fk_label_studio_annotations_project_id')),
    sa.ForeignKeyConstraint(['task_id'], ['label_studio_tasks.id'], name=op.f('fk_label_studio_annotations_task_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_label_studio_annotations')),
    sa.UniqueConstraint('project_id', 'annotation_id', 'number', name=op.f('uq_label_studio_annotations_project_id_annotation_id_number'))
    )
    with op.batch_alter_table('label_studio_annotations', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_label_studio_annotations_project_id_outcome'), ['project_id', 'outcome'], unique=False)
        batch_op.create_index(batch_op.f('ix_label_studio_annotations_task_id'), ['task_id'], unique=False)

    with op.batch_alter_table('pair_reviews', schema=None) as batch_op:
        batch_op.add_column(sa.Column('reason', sa.String(), server_default='', nullable=False))
        batch_op.add_column(sa.Column('flags', Json, nullable=True))
        batch_op.add_column(sa.Column('ratings', Json, nullable=True))
        batch_op.add_column(sa.Column('revises_id', sa.String(), nullable=True))
        batch_op.add_column(sa.Column('is_revealed', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column('is_random', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column('is_gold', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column('origin', sa.String(), server_default='desk', nullable=False))
        batch_op.create_index(batch_op.f('ix_pair_reviews_revises_id'), ['revises_id'], unique=False)

    with op.batch_alter_table('pairs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('overlap', sa.Integer(), server_default='1', nullable=False))
        batch_op.add_column(sa.Column('taken', sa.Integer(), server_default='0', nullable=False))
        batch_op.add_column(sa.Column('priority', sa.Integer(), server_default='0', nullable=False))
        batch_op.add_column(sa.Column('lottery', sa.Integer(), server_default='0', nullable=False))
        batch_op.add_column(sa.Column('assignee', sa.String(), nullable=True))
        batch_op.add_column(sa.Column('gold_response_id', sa.String(), nullable=True))
        batch_op.add_column(sa.Column('lints', Json, nullable=True))
        batch_op.add_column(sa.Column('is_stale', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.drop_index(batch_op.f('ix_pairs_tenant_id_lease_holder'))
        batch_op.drop_column('lease_until')
        batch_op.drop_column('lease_holder')

    op.create_index('ix_pairs_by_priority', 'pairs', ['tenant_id', sa.literal_column('priority DESC'), 'position'], unique=False)
    op.create_index('ix_pairs_open', 'pairs', ['tenant_id', 'assignee', sa.literal_column('priority DESC'), 'position'], unique=False, sqlite_where=sa.text("status = 'unreviewed' AND taken < overlap AND gold_response_id IS NULL"), postgresql_where=sa.text("status = 'unreviewed' AND taken < overlap AND gold_response_id IS NULL"))
    op.create_index('ix_pairs_open_lottery', 'pairs', ['tenant_id', 'assignee', 'lottery', 'id'], unique=False, sqlite_where=sa.text("status = 'unreviewed' AND taken < overlap AND gold_response_id IS NULL"), postgresql_where=sa.text("status = 'unreviewed' AND taken < overlap AND gold_response_id IS NULL"))
    op.create_index('ix_pairs_planted', 'pairs', ['tenant_id', 'lottery'], unique=False, sqlite_where=sa.text('gold_response_id IS NOT NULL'), postgresql_where=sa.text('gold_response_id IS NOT NULL'))

    with op.batch_alter_table('prompts', schema=None) as batch_op:
        batch_op.add_column(sa.Column('is_evaluation', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.create_index(batch_op.f('ix_prompts_tenant_id_is_evaluation'), ['tenant_id', 'is_evaluation'], unique=False)

    with op.batch_alter_table('responses', schema=None) as batch_op:
        batch_op.create_index('ix_responses_edited', ['tenant_id', 'pair_id'], unique=False, sqlite_where=sa.text('version > 1'), postgresql_where=sa.text('version > 1'))


    _draw_lots(op.get_bind())
    search.create(op.get_bind())


def _draw_lots(connection: sa.Connection) -> None:
    """Pairs of the first version have no number in the lottery yet."""
    pairs = sa.table('pairs', sa.column('id'), sa.column('lottery'))
    drawn = [{'pair': pair_id, 'number': lottery(pair_id)} for pair_id in connection.scalars(sa.select(pairs.c.id))]
    if drawn:
        wanted = sa.update(pairs).where(pairs.c.id == sa.bindparam('pair'))
        connection.execute(wanted.values(lottery=sa.bindparam('number')), drawn)


def downgrade() -> None:
    for name in ('ix_pairs_planted', 'ix_pairs_open_lottery', 'ix_pairs_open', 'ix_pairs_by_priority'):
        op.drop_index(name, table_name='pairs')
    op.execute('DROP TABLE IF EXISTS pair_search')
    op.execute('DROP TABLE IF EXISTS pair_search_tenants')
    with op.batch_alter_table('responses', schema=None) as batch_op:
        batch_op.drop_index('ix_responses_edited', sqlite_where=sa.text('version > 1'), postgresql_where=sa.text('version > 1'))

    with op.batch_alter_table('prompts', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_prompts_tenant_id_is_evaluation'))
        batch_op.drop_column('is_evaluation')

    with op.batch_alter_table('pairs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('lease_holder', sa.String(), nullable=True))
        batch_op.add_column(sa.Column('lease_until', UtcDateTime(), nullable=True))
        batch_op.create_index(batch_op.f('ix_pairs_tenant_id_lease_holder'), ['tenant_id', 'lease_holder'], unique=False)
        batch_op.drop_column('is_stale')
        batch_op.drop_column('lints')
        batch_op.drop_column('gold_response_id')
        batch_op.drop_column('assignee')
        batch_op.drop_column('lottery')
        batch_op.drop_column('priority')
        batch_op.drop_column('taken')
        batch_op.drop_column('overlap')

    with op.batch_alter_table('pair_reviews', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_pair_reviews_revises_id'))
        batch_op.drop_column('origin')
        batch_op.drop_column('is_gold')
        batch_op.drop_column('is_random')
        batch_op.drop_column('is_revealed')
        batch_op.drop_column('revises_id')
        batch_op.drop_column('ratings')
        batch_op.drop_column('flags')
        batch_op.drop_column('reason')

    with op.batch_alter_table('label_studio_annotations', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_label_studio_annotations_task_id'))
        batch_op.drop_index(batch_op.f('ix_label_studio_annotations_project_id_outcome'))

    op.drop_table('label_studio_annotations')
    with op.batch_alter_table('pair_judgments', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_pair_judgments_pair_id'))

    op.drop_table('pair_judgments')
    with op.batch_alter_table('pair_claims', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_pair_claims_tenant_id_until'))
        batch_op.drop_index(batch_op.f('ix_pair_claims_tenant_id_annotator_id_until_place'))

    op.drop_table('pair_claims')
    with op.batch_alter_table('label_studio_tasks', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_label_studio_tasks_project_id_state'))
        batch_op.drop_index(batch_op.f('ix_label_studio_tasks_pair_id'))

    op.drop_table('label_studio_tasks')
    op.drop_table('edit_drafts')
    with op.batch_alter_table('bulk_changes', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_bulk_changes_pair_id'))

    op.drop_table('bulk_changes')
    with op.batch_alter_table('quality_reports', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_quality_reports_tenant_id_created_at'))

    op.drop_table('quality_reports')
    op.drop_table('review_policies')
    op.drop_table('review_groups')
    with op.batch_alter_table('pair_views', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_pair_views_tenant_id'))

    op.drop_table('pair_views')
    with op.batch_alter_table('label_studio_projects', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_label_studio_projects_tenant_id'))

    op.drop_table('label_studio_projects')
    op.drop_table('label_studio_people')
    op.drop_table('guardrail_policies')
    with op.batch_alter_table('bulk_actions', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_bulk_actions_tenant_id_created_at'))

    op.drop_table('bulk_actions')
