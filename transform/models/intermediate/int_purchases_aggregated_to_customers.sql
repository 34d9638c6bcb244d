with

    transactions as (select * from {{ ref("stg_completejourney__transactions") }}),

    last_day as (

        -- recency counts from the last day in the data and not from today, so that
        -- the same data gives the same result
        select max(cast(purchased_at as date)) as last_date from transactions

    ),

    final as (

        select
            transactions.household_id,
            min(transactions.purchased_at) as first_purchase_at,
            max(transactions.purchased_at) as last_purchase_at,
            date_diff(
                'day',
                cast(max(transactions.purchased_at) as date),
                any_value(last_day.last_date)
            ) as recency_days,
            count(distinct transactions.basket_id) as frequency,
            sum(transactions.sales_value) as monetary_value,
            sum(transactions.quantity) as units,
            count(distinct transactions.product_id) as distinct_products
        from transactions
        cross join last_day
        group by transactions.household_id

    )

select *
from final
