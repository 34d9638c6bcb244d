with

    transactions as (select * from {{ ref("base_completejourney__transactions") }}),

    final as (

        select * exclude (rejection_reason)
        from transactions
        where rejection_reason is null

    )

select *
from final
